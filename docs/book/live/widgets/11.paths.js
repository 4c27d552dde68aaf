"use strict";
(() => {
  // The world of the lesson: a mixture on a line, whose denoiser (3.13) and whose paths (11.4) are known.
  const [centres, weights, S] = [[-1, 0.2, 1.1], [0.5, 0.3, 0.2], 0.3 ** 2];
  const path = course.schedules.vpLinear();
  const particles = course.range(40, (i) => (i + 0.5) / 40);  // by the share of the swarm below them

  // The normal distribution function, by its series around 0.
  const ndtr = (z) => {
    if (Math.abs(z) > 8) return z > 0 ? 1 : 0;
    let [sum, term] = [z, z];
    for (let k = 3; Math.abs(term) > 1e-17; k += 2) sum += term *= (z * z) / k;
    return 0.5 + (sum * Math.exp((-z * z) / 2)) / Math.sqrt(2 * Math.PI);
  };
  const exact = (t, shares) => {
    const [alpha, spread] = [path.alpha(t), Math.sqrt(path.alpha(t) ** 2 * S + path.sigma(t) ** 2)];
    const below = (x) => weights.reduce((sum, w, k) => sum + w * ndtr((x - alpha * centres[k]) / spread), 0);
    return shares.map((share) => course.bisect((x) => below(x) < share, -20, 20));
  };
  const believe = (xs, t) => {
    const [alpha, variance] = [path.alpha(t), path.alpha(t) ** 2 * S + path.sigma(t) ** 2];
    return xs.map((x) => {
      const logits = centres.map((m, k) => Math.log(weights[k]) - (x - alpha * m) ** 2 / (2 * variance));
      const most = Math.max(...logits);
      const r = logits.map((logit) => Math.exp(logit - most));
      const guesses = centres.map((m) => m + ((alpha * S) / variance) * (x - alpha * m));
      return r.reduce((sum, value, k) => sum + value * guesses[k], 0) / r.reduce((a, b) => a + b);
    });
  };
  // n steps, even in log r, from r = 4 to r = 0.05
  const even = (n) =>
    course.range(n + 1, (i) => path.tAtLogSnr(-2 * (Math.log(4) + (i / n) * (Math.log(0.05) - Math.log(4)))));

  const { blue, green, orange, pink, black } = course.colours;
  const by = (step) => (...rest) => course.walk(step, ...rest);
  const solvers = {
    "Euler (DDIM)": [by(course.steps.ddim()), blue, ""],
    Heun: [by(course.steps.heun), green, ""],
    "DPM-Solver++ 2S": [by(course.steps.dpmpp2s), green, "6 4"],
    "DPM-Solver++ 2M": [by(course.steps.dpmpp2m), orange, ""],
    "UniPC-2": [(...rest) => course.unipc(2, ...rest), pink, ""],
    "UniPC-3": [(...rest) => course.unipc(3, ...rest), pink, "6 4"],
  };

  // A solver's way for these particles: [t, x] at each call of the denoiser and at the end.
  const ways = async (solver, times, shares) => {
    const asked = [];
    const recorded = (x, t) => {
      asked.push([t, x]);
      return believe(x, t);
    };
    let end;
    for await (const { xs } of solvers[solver][0](recorded, exact(times[0], shares), path, times)) end = xs;
    return [...asked, [times.at(-1), end]];
  };
  const plane = (way, k) => ({
    x: way.map(([t]) => path.sigma(t) / path.alpha(t)),
    y: way.map(([t, xs]) => xs[k] / path.alpha(t)),
  });
  const few = particles.filter((_, i) => i % 3 === 1);
  let curves = null;  // the exact ones, the same for every solver

  course.widgets["11.paths"] = {
    draw: async function* ({ solver, steps }, { room }) {
      const times = even(steps);
      curves ??= even(60).map((t) => [t, exact(t, few)]);
      const all = await ways(solver, times, particles);
      const truth = exact(times.at(-1), particles);
      const squares = all.at(-1)[1].map((x, i) => (x - truth[i]) ** 2);
      const error = Number(Math.sqrt(squares.reduce((a, b) => a + b) / squares.length).toPrecision(2));
      const way = await ways(solver, times, few);
      const [, colour, dash] = solvers[solver];
      const marks = few.flatMap((_, k) => [
        { ...plane(curves, k), colour: black, width: 0.7 },
        { ...plane(way, k), colour, dash, width: 1.2, dots: true },
      ]);
      yield [
        course.plot({
          width: Math.min(room, 720),
          height: 330,
          title: `${solver}: ${steps} steps, ${all.length - 1} calls, error ${error}`,
          x: { from: 2.5, to: 0, ticks: [2.5, 2, 1.5, 1, 0.5, 0], label: "r = σ/α" },
          y: { from: -4, to: 4, ticks: [-4, -2, 0, 2, 4], label: "y = x/α" },
          marks,
        }),
      ];
    },
  };
})();
