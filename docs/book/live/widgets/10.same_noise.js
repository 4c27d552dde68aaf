"use strict";
course.widgets["10.same_noise"] = {
  needs: ["mnist-unet"],
  draw: async function* ({ n, eta }, { "mnist-unet": unet }) {
    const { randn } = course.generator(0);
    const step = course.steps.ddim(eta, randn);
    const grid = course.uniformGrid(unet.schedule, n);
    const walk = course.walk(step, (x, t) => unet.denoise(x, t, [-1, -1]), randn(2 * 784), unet.schedule, grid);
    for await (const { s, xs } of walk) {
      yield [course.pictures(xs, { columns: 2, size: 9, titles: [`t = ${s}`, `${n} steps, η = ${eta}`] })];
    }
  },
};
