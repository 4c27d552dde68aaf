// Widgets that run in the reader's browser. A lesson's page holds `<div class="live" data-widget="00.draw" …>` with the
// controls that the lesson's own call of `explore` has; course.widgets["00.draw"] draws the figure for their values.
//
//     course.widgets["01.look"] = { needs: ["digits"], draw: (values, kit) => [elements] };
//
// The kit holds what it needs, and `room`, how wide a figure may be, in pixels. `draw` may be an async generator: each
// figure that it yields is shown, and it is dropped as soon as a control moves. For a figure that is itself a control
// there are `kit.hold()`, which drops it, and `kit.again()`, which draws anew.
// `needs` are files that are fetched when first asked for: their names are in course.files, with their sizes.
"use strict";
(() => {
  const { element } = course;
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const here = new URL(".", document.currentScript.src);
  const loaded = {};

  const load = (file) =>
    (loaded[file] ??= new Promise((done, failed) => {
      const script = element("script", { src: new URL(file, here) });
      script.onload = done;
      script.onerror = () => failed(new Error(`${file} is missing from this copy of the page`));
      document.head.append(script);
    }));

  const kits = {};  // by what is needed: the network is made once for all widgets of a page
  const fetchAll = async (needs) => {
    const kit = {};
    for (const need of needs) {
      for (const file of course.files[need].files) await load(file);
      kit[need] = await (kits[need] ??= course.make[need]());
    }
    return kit;
  };

  // ---------------------------------------------------------------- controls

  const slider = ({ name, label, min, max, step, value, digits }, moved) => {
    const input = element("input", { type: "range", name, min, max, step, value });
    const shown = element("output", {}, Number(value).toFixed(digits));
    input.addEventListener("input", () => {
      shown.value = Number(input.value).toFixed(digits);
      moved(name, Number(input.value));
    });
    return element("label", {}, element("span", {}, label), input, shown);
  };

  const span = ({ name, label, min, max, step, value, digits }, moved) => {  // from … to: two sliders that keep their order
    const group = element("div", { role: "group", "aria-label": label });
    const ends = ["from", "to"].map((word, end) => {
      const input = element("input", { type: "range", name: `${name}-${word}`, min, max, step, value: value[end] });
      const shown = element("output", {}, Number(value[end]).toFixed(digits));
      group.append(element("label", {}, element("span", {}, `${label} ${word}`), input, shown));
      input.addEventListener("input", () => {
        const other = ends[1 - end].input;
        if (ends[0].input.valueAsNumber > ends[1].input.valueAsNumber) other.value = input.value;
        for (const one of ends) one.shown.value = one.input.valueAsNumber.toFixed(digits);
        moved(name, ends.map((one) => one.input.valueAsNumber));
      });
      return { input, shown };
    });
    return group;
  };

  const choice = ({ name, label, options, value }, moved, id) => {
    const group = element("fieldset", {}, element("legend", {}, label));
    options.forEach(([words, chosen], i) => {
      const button = element("input", { type: "radio", name: `${id}-${name}`, value: i });
      button.checked = chosen === value;
      button.addEventListener("change", () => moved(name, chosen));
      group.append(element("label", {}, button, element("span", {}, words)));
    });
    return group;
  };

  // ---------------------------------------------------------------- a widget

  const start = (box) => {
    const id = box.dataset.widget;
    const { alt, controls } = JSON.parse(box.dataset.controls);
    const widget = course.widgets[id];
    const values = Object.fromEntries(controls.map(({ name, value }) => [name, value]));
    const says = element("p", { class: "says", role: "status" });
    const figure = element("div", { class: "card", role: "img", "aria-label": alt });
    const form = element("form", {});
    form.addEventListener("submit", (event) => event.preventDefault());
    let turn = 0;

    const redraw = async () => {
      const mine = ++turn;
      try {
        box.dataset.state = "busy";
        const kit = await fetchAll(widget.needs ?? []);
        if (mine !== turn) return;
        says.textContent = widget.note ?? "";
        const room = figure.clientWidth - parseFloat(getComputedStyle(figure).paddingLeft) * 2;
        const made = widget.draw({ ...values }, { ...kit, room, hold: () => (turn += 1), again: redraw });
        if (made[Symbol.asyncIterator]) {
          let last = [];
          for await (const frame of made) {
            if (mine !== turn) return;
            last = frame;
            if (!still.matches) figure.replaceChildren(...frame);
            await new Promise((next) => setTimeout(next));  // the page stays awake between two steps
          }
          figure.replaceChildren(...last);
        } else {
          figure.replaceChildren(...made);
        }
        if (mine === turn) box.dataset.state = "done";
      } catch (error) {
        console.info(error);
        says.textContent = `This widget cannot run here: ${error.message}. The figure beside it says the same.`;
        box.dataset.state = "failed";
      }
    };
    const moved = (name, value) => {
      values[name] = value;
      redraw();
    };
    for (const control of controls) form.append({ slider, span, choice }[control.kind](control, moved, id));
    const show = () => {
      box.replaceChildren(form, figure, element("p", { class: "alt" }, alt), says);
      redraw();
    };

    const missing = (widget.needs ?? []).map((need) => course.files[need].missing).find(Boolean);
    if (missing) return box.append(element("p", { class: "says" }, `It cannot run on this page: ${missing}.`));
    const size = (widget.needs ?? []).reduce((sum, need) => sum + course.files[need].bytes, 0);
    if (!size) return show();
    const ask = element("button", { type: "button" }, `Run it here: ${(size / 1e6).toFixed(1)} MB`);
    ask.addEventListener("click", () => {
      says.textContent = "Loading …";
      show();
      form.querySelector("input").focus({ preventScroll: true });
    });
    box.replaceChildren(ask);
  };

  document.querySelectorAll(".live").forEach(start);
})();
