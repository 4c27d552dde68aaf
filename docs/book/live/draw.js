// Figures: pictures and plots as elements of the page, on the white card of the course's figures, in its colours.
"use strict";
course.colours = { blue: "#0072B2", orange: "#D55E00", green: "#009E73", pink: "#CC79A7", black: "#000", grey: "#bbb" };

const element = (name, attributes = {}, ...children) => {
  const svg = /^(svg|g|path|rect|circle|text|clipPath)$/.test(name);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
};
course.element = element;

// side × side pixels in [-1, 1] as a canvas, or anew on one.
course.canvas = (pixels, side = 28, canvas = element("canvas", { width: side, height: side })) => {
  const image = new ImageData(side, side);
  pixels.forEach((pixel, i) => {
    const grey = Math.round((Math.min(Math.max(pixel, -1), 1) + 1) * 127.5);
    image.data.set([grey, grey, grey, 255], 4 * i);
  });
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
};

// Pictures of side × side pixels in [-1, 1], one after the other in `pixels`; titles above them, labels left of rows.
course.pictures = (pixels, { side = 28, columns = 8, titles = [], rows = [], size = 4.5 } = {}) => {
  const area = side ** 2;
  const grid = element("div", { class: "pictures", style: `--columns: ${columns}; --size: ${size}rem` });
  for (let n = 0; n < pixels.length / area; n++) {
    if (rows.length && n % columns === 0) grid.append(element("span", { class: "row" }, rows[n / columns]));
    const canvas = course.canvas(pixels.slice(n * area, (n + 1) * area), side);
    grid.append(element("span", { class: "picture" }, titles[n] ?? "", canvas));
  }
  if (rows.length) grid.classList.add("labelled");
  return grid;
};

// A plot. x and y: {from, to, ticks, label}; marks: {x, y, colour, width, dash, dots} for lines, {bars, y, colour} for
// bars of a given width; `words` are texts in the plot, {x, y, text}.
let clips = 0;
course.plot = ({ title = "", x, y, marks, words = [], width = 420, height = 240 }) => {
  const [left, right, top, bottom] = [46, 18, title ? 26 : 8, 38];
  const px = (value) => left + ((value - x.from) / (x.to - x.from)) * (width - left - right);
  const py = (value) => height - bottom - ((value - y.from) / (y.to - y.from)) * (height - top - bottom);
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, class: "plot", style: `--width: ${width}px` });
  const text = (at, words, more = {}) =>
    svg.append(element("text", { x: at[0], y: at[1], "text-anchor": "middle", ...more }, words));
  const line = (from, to, colour) =>
    svg.append(element("path", { d: `M${from}L${to}`, stroke: colour, fill: "none", "stroke-width": 1 }));
  for (const tick of x.ticks) {
    line([px(tick), top], [px(tick), height - bottom], "#eee");
    text([px(tick), height - bottom + 14], String(tick).replace("-", "−"));
  }
  for (const tick of y.ticks) {
    line([left, py(tick)], [width - right, py(tick)], "#eee");
    text([left - 5, py(tick) + 4], String(tick).replace("-", "−"), { "text-anchor": "end" });
  }
  line([left, top], [left, height - bottom], "#333");
  line([left, height - bottom], [width - right, height - bottom], "#333");
  text([(left + width - right) / 2, 14], title, { class: "title" });
  text([(left + width - right) / 2, height - 6], x.label);
  text([12, (top + height - bottom) / 2], y.label, { transform: `rotate(-90 12 ${(top + height - bottom) / 2})` });
  const clip = `plot-${(clips += 1)}`;
  const box = { x: left, y: top, width: width - left - right, height: height - top - bottom };
  const inside = element("g", { "clip-path": `url(#${clip})` });
  svg.append(element("clipPath", { id: clip }, element("rect", box)), inside);
  for (const mark of marks) {
    const points = mark.y.map((value, i) => [px(mark.x[i]), py(value)]).filter((place) => place.every(Number.isFinite));
    const colour = mark.colour ?? course.colours.blue;
    if (mark.bars) {
      const half = (px(mark.bars) - px(0)) / 2;
      points.forEach(([a, b], i) => {
        const fill = mark.colours?.[i] ?? colour;
        const bar = { x: a - half, y: b, width: 2 * half, height: Math.max(height - bottom - b, 0) };
        inside.append(element("rect", { ...bar, fill, opacity: mark.opacity ?? 1 }));
      });
      continue;
    }
    const d = points.map(([a, b], i) => `${i ? "L" : "M"}${a.toFixed(1)} ${b.toFixed(1)}`).join("");
    const look = { stroke: colour, fill: "none", "stroke-width": mark.width ?? 1.8, "stroke-dasharray": mark.dash ?? "" };
    inside.append(element("path", { d, ...look }));
    if (mark.dots) points.forEach(([a, b]) => inside.append(element("circle", { cx: a, cy: b, r: 2.2, fill: colour })));
  }
  for (const word of words) text([px(word.x), py(word.y)], word.text, { "text-anchor": "start" });
  return svg;
};
