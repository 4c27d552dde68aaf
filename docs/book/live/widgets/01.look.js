"use strict";
course.widgets["01.look"] = {
  needs: ["digits"],
  note: "Here the world holds 2,000 digits, not all 60,000, and the noise is another than in the figure.",
  draw: ({ digit, t }, { digits, room }) => {
    const { blue, orange, black } = course.colours;
    const schedule = course.schedules.linear();
    const width = Math.min(room > 620 ? (room - 160) / 2 : room, 330);
    const chosen = digits.pictures[digits.labels.flatMap((label, i) => (label === Number(digit) ? [i] : []))[3]];
    const x = course.qSample(chosen, t, schedule, course.generator(0).randn(784));
    const decibels = ((10 * schedule.logSnr(t)) / Math.LN10).toFixed(1).replace("-", "−");
    const heights = Array(40).fill(0);
    for (const value of x) {
      const bin = Math.floor((value + 4) * 5);
      if (bin >= 0 && bin < 40) heights[bin] += 5 / x.length;
    }
    const xs = course.range(100, (i) => -4 + (8 * i) / 99);
    return [
      course.pictures(x, { columns: 1, titles: [`t = ${t}, SNR ${decibels} dB`], size: 7.5 }),
      course.plot({
        width,
        x: { from: -4, to: 4, ticks: [-4, -2, 0, 2, 4], label: "pixel value" },
        y: { from: 0, to: 1, ticks: [0, 0.5, 1], label: "density" },
        marks: [
          { bars: 0.2, x: heights.map((_, i) => -3.9 + i / 5), y: heights, colour: blue, opacity: 0.5 },
          { x: xs, y: xs.map((z) => Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI)), colour: black, width: 1 },
        ],
        words: [{ x: 1.2, y: 0.4, text: "N(0, 1)" }],
      }),
      course.plot({
        width,
        title: "the perfect observer says",
        x: { from: -0.7, to: 9.7, ticks: course.range(10, (d) => d), label: "digit" },
        y: { from: 0, to: 1, ticks: [0, 0.5, 1], label: "probability" },
        marks: [
          {
            bars: 0.8,
            x: course.range(10, (d) => d),
            y: belief(x, t, schedule, digits),
            colours: course.range(10, (d) => (d === Number(digit) ? orange : blue)),
          },
        ],
      }),
    ];
  },
};

// Eq. (1.6): a softmax over distances, added up over all pictures of a class.
const belief = (x, t, schedule, { pictures, labels }) => {
  const [alpha, sigma] = [schedule.alpha(t), schedule.sigma(t)];
  const logits = pictures.map((picture) => {
    let distance = 0;
    for (let i = 0; i < x.length; i++) distance += (x[i] - alpha * picture[i]) ** 2;
    return -distance / (2 * sigma ** 2);
  });
  const most = logits.reduce((a, b) => Math.max(a, b));
  const sums = Array(10).fill(0);
  logits.forEach((logit, i) => (sums[labels[i]] += Math.exp(logit - most)));
  const all = sums.reduce((a, b) => a + b);
  return sums.map((sum) => sum / all);
};
