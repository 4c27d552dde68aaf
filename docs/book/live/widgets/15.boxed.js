"use strict";
(() => {
  const side = 28;
  const [steps, rounds, std] = [10, 4, 0.6];  // the lesson takes more, of the same kind
  const known = ([top, bottom], [left, right]) =>
    Float32Array.from({ length: side ** 2 }, (_, i) => {
      const [row, column] = [Math.floor(i / side), i % side];
      return row < top || row >= bottom || column < left || column >= right ? 1 : 0;
    });

  // n fillings where the mask is 0, as `fillings` of the lesson: after each step, as x_s
  course.fill = async function* (unet, y, mask, { method, ask, w, n, steps, rounds, seed = 0 }) {
    const { schedule } = unet;
    const [alpha, sigma] = [schedule.alpha, schedule.sigma];
    const { randn } = course.generator(seed);
    const none = Array(n).fill(-1);
    const led = (x, t) => {  // Eq. (15.4), on tensors
      if (ask === null) return unet.guess(x, t, none, t);
      const both = unet.guess(tf.concat([x, x]), t, [...none, ...Array(n).fill(Number(ask))], t);
      const [without, told] = tf.split(both, 2);
      return tf.add(without, tf.mul(w, tf.sub(told, without)));
    };
    const pin = (guess) => guess.map((value, i) => (mask[i % mask.length] ? y[i % mask.length] : value));
    const found = async (make) => {
      const answer = tf.tidy(make);
      const values = await answer.data();
      answer.dispose();
      return values;
    };
    const plain = (x, t) => found(() => led(unet.pictures(x), t));
    const towards = async (x, t) =>  // Eq. (15.13), and what is known as it is
      pin(
        await found(() => {
          const [seen, wanted] = [unet.pictures(mask), unet.pictures(y)];
          let guess;
          const misfit = (x) => {
            guess = tf.keep(led(x, t));
            return tf.mul(0.5, tf.sum(tf.square(tf.mul(seen, tf.sub(wanted, guess)))));
          };
          const slope = tf.grad(misfit)(unet.pictures(x));
          const scale = (alpha(t) ** 2 * std ** 2 + sigma(t) ** 2) / (alpha(t) * std ** 2);
          const answer = tf.sub(guess, tf.mul(scale, slope));
          guess.dispose();
          return answer;
        }),
      );
    const down = course.steps.ddim(1, randn);
    const repaint = async ({ x, t, s, guess, ask, ...rest }) => {  // Eqs. (15.11) and (15.12)
      for (let left = method === "resampling" ? rounds - 1 : 0; ; left--) {
        const ours = await down({ x, t, s, guess, ...rest });
        const z = randn(x.length);
        const at = (i) => alpha(s) * y[i % mask.length] + sigma(s) * z[i];
        const xs = ours.map((value, i) => (mask[i % mask.length] ? at(i) : value));
        if (!left) return xs;
        const back = alpha(t) / alpha(s);
        x = course.mix([back, xs], [Math.sqrt(sigma(t) ** 2 - (back * sigma(s)) ** 2), randn(x.length)]);
        guess = await ask(x, t);
      }
    };
    const [step, denoise] = method === "gradient" ? [down, towards] : [repaint, plain];
    const grid = course.uniformGrid(schedule, steps);
    for await (const { xs } of course.walk(step, denoise, randn(n * side ** 2), schedule, grid)) yield xs;
  };

  // A picture on which one paints what is to be hidden: mask becomes 0 under the brush.
  const easel = (y, mask, { hold, again }) => {
    const shown = () => y.map((value, i) => (mask[i] ? value : 0));
    const canvas = course.canvas(shown());
    canvas.classList.add("easel");
    const brush = (event) => {
      const box = canvas.getBoundingClientRect();
      const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height].map((z) => z * side);
      mask.forEach((_, i) => {
        if (Math.hypot((i % side) + 0.5 - x, Math.floor(i / side) + 0.5 - y) < 2) mask[i] = 0;
      });
      course.canvas(shown(), side, canvas);
    };
    canvas.addEventListener("pointerdown", (event) => {
      hold();
      canvas.setPointerCapture(event.pointerId);
      brush(event);
    });
    canvas.addEventListener("pointermove", (event) => canvas.hasPointerCapture(event.pointerId) && brush(event));
    canvas.addEventListener("lostpointercapture", again);
    return course.element("span", { class: "picture", style: "width: 8rem" }, "paint here, too", canvas);
  };

  let hidden = { box: "", mask: null };  // what is painted stays until the box is moved
  course.widgets["15.boxed"] = {
    needs: ["digits", "mnist-unet"],
    note:
      `Here it is another seven, in ${steps} steps, and ${rounds} rounds where there are rounds. On the left picture you ` +
      "may paint what is to be hidden as well; moving the box takes it away again.",
    draw: async function* ({ rows, columns, ...values }, { digits, "mnist-unet": unet, room, ...kit }) {
      const seven = digits.pictures[digits.labels.flatMap((label, i) => (label === 7 ? [i] : []))[3]];
      const box = `${rows} ${columns}`;
      if (hidden.box !== box) hidden = { box, mask: known(rows, columns) };
      const left = easel(seven, hidden.mask, kit);
      const n = room < 500 ? 3 : 4;
      for await (const xs of course.fill(unet, seven, hidden.mask, { ...values, n, steps, rounds })) {
        yield [left, course.pictures(xs, { columns: n, size: 6 })];
      }
    },
  };
})();
