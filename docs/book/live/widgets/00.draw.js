"use strict";
course.widgets["00.draw"] = {
  needs: ["mnist-unet"],
  draw: async function* ({ n, seed, kind }, { "mnist-unet": unet, room }) {
    const { randn } = course.generator(seed);
    const labels = Array(8).fill(kind === "any" ? -1 : Number(kind));
    const ancestral = course.steps.ddim(1, randn);
    const grid = course.uniformGrid(unet.schedule, n);
    const walk = course.walk(ancestral, (x, t) => unet.denoise(x, t, labels), randn(8 * 784), unet.schedule, grid);
    const film = [];
    for await (const { t, s, x, xs } of walk) {
      film.push([`t = ${t}`, x.slice(0, 784)]);
      if (s === 0) film.push(["t = 0", xs.slice(0, 784)]);
      yield [course.pictures(xs, { columns: 8 }), ...(s === 0 ? [way(film, room < 500 ? 6 : 10)] : [])];
    }
  },
};

// The way of the first digit: some frames of it, or all.
const way = (film, most) => {
  const count = Math.min(film.length, most);
  const frames = course.range(count, (i) => film[Math.round((i * (film.length - 1)) / Math.max(count - 1, 1))]);
  const pixels = frames.flatMap(([, x]) => Array.from(x));
  return course.pictures(pixels, { columns: count, titles: frames.map(([title]) => title), size: 3.6 });
};
