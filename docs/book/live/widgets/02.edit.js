"use strict";
course.widgets["02.edit"] = {
  needs: ["digits"],
  draw: ({ family, beta_T, s, tau }, { digits, room }) => {
    const { linear, exponential, cosine, sigmoid } = course.schedules;
    const standard = [linear(), exponential(), cosine(), sigmoid()];
    const make = { linear: () => linear(beta_T), exponential: () => exponential(beta_T), cosine: () => cosine(s) };
    const schedule = (make[family] ?? (() => sigmoid(tau)))();
    const times = course.range(1000, (i) => i + 1);
    const curve = (one, look) => ({ x: times, y: times.map(one.logSnr), ...look });
    const seven = digits.pictures[digits.labels.flatMap((label, i) => (label === 7 ? [i] : []))[3]];
    const noise = course.generator(0).randn(784);
    const frames = course.range(9, (i) => 125 * i);
    return [
      course.plot({
        width: Math.min(room, 720),
        height: 280,
        title: `${family}; in grey the four standard schedules`,
        x: { from: 0, to: 1000, ticks: [0, 200, 400, 600, 800, 1000], label: "t" },
        y: { from: -13, to: 12, ticks: [-10, -5, 0, 5, 10], label: "log-SNR" },
        marks: [...standard.map((one) => curve(one, { colour: course.colours.grey, width: 1 })), curve(schedule, {})],
      }),
      course.pictures(
        frames.flatMap((t) => Array.from(course.qSample(seven, t, schedule, noise))),
        { columns: 9, titles: frames.map((t) => `t = ${t}`), size: 4 },
      ),
    ];
  },
};
