"use strict";
(() => {
  const took = [];  // milliseconds, without the first call, which prepares much
  const noise = course.generator(1).randn(2 * 784);
  const ends = [noise.subarray(0, 784), noise.subarray(784)];

  course.widgets["14.live"] = {
    needs: ["mnist-onestep"],
    note: "Here the two noises are others than those of the film.",
    draw: async function* ({ digit, s }, { "mnist-onestep": unet }) {
      const began = performance.now();
      const image = await unet.denoise(course.slerp(...ends, s), 1000, [digit], 0);
      took.push(performance.now() - began);
      const last = took.slice(1).slice(-20);
      const rate = last.length ? `, ${((1000 * last.length) / last.reduce((a, b) => a + b)).toFixed(0)} a second` : "";
      const title = course.element("span", { class: "varies" }, `one call${rate}`);
      yield [course.pictures(image, { columns: 1, size: 11, titles: [title] })];
    },
  };
})();
