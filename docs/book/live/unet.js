// The shipped U-Net (course_utils/denoisers/unet.py) in TensorFlow.js, its weights read from the safetensors file that
// the course ships. Pixels last: (batch, height, width, channels).
"use strict";

course.make = course.make || {};

let ready = null;  // one backend for all networks of a page
const backend = async () => {
  const wasm = await course.inflated(course.data.wasm.file);
  tf.env().set("WASM_HAS_MULTITHREAD_SUPPORT", false);  // threads need headers that a file or a plain host does not send
  const file = URL.createObjectURL(new Blob([wasm], { type: "application/wasm" }));
  const builds = ["", "-simd", "-threaded-simd"].map((kind) => [`tfjs-backend-wasm${kind}.wasm`, file]);
  tf.wasm.setWasmPaths(Object.fromEntries(builds));  // it asks for all three; with SIMD and without threads is the one
  if (!(await tf.setBackend("wasm"))) throw new Error("this browser has no WebAssembly with SIMD");
  URL.revokeObjectURL(file);
};

// A denoiser: (x, t, labels, r) -> a guess of x_0, x and the guess as Float32Array of n pictures; labels are 0 … 9, or
// -1 for none; r is where a jump is to end, for a network that is told. One for all widgets of a page.
for (const name of ["mnist-unet", "mnist-onestep"]) {
  course.make[name] = async () => {
    await (ready ??= backend().then(course.make.gradients));
    const { head, planes, moments } = course.data[name];
    return unet(readSafetensors(joined(await course.inflated(planes), head)), moments);
  };
}

// The build puts first bytes of all numbers before their second ones, since these are more alike, and deflates them.
const joined = (planes, head) => {
  const bytes = planes.slice();
  const half = (planes.length - head) / 2;
  for (let i = 0; i < half; i++) {
    bytes[head + 2 * i] = planes[head + i];
    bytes[head + 2 * i + 1] = planes[head + half + i];
  }
  return bytes;
};

const readSafetensors = (bytes) => {
  const view = new DataView(bytes.buffer);
  const start = 8 + Number(view.getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, start)));
  const { __metadata__: about, ...entries } = header;
  const recipe = JSON.parse(about.recipe);
  const tensors = {};
  for (const [name, { shape, data_offsets: [from, to] }] of Object.entries(entries)) {
    const halves = new Uint16Array(bytes.buffer.slice(start + from, start + to));
    tensors[name.replace("network.", "")] = tf.tensor(Float32Array.from(halves, toFloat), shape);
  }
  return { recipe, tensors };
};

// A float16 as a number: sign, exponent, fraction.
const toFloat = (half) => {
  const [exponent, fraction] = [(half >> 10) & 31, half & 1023];
  const size = exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024);
  return half >> 15 ? -size : size;
};

const unet = ({ recipe, tensors }, [mean, std]) => {
  const { widths, blocks, stem = 2, attention = [1] } = { blocks: 2, ...recipe.network };
  const schedule = course.schedules.linear();
  const { kind, T } = recipe.schedule ?? { kind: "linear", T: recipe.T };
  if (recipe.predict !== "v" || kind !== "linear" || T !== schedule.T) throw new Error("a recipe that this page does not know");
  // Kernels as TensorFlow wants them: height, width, in, out; matrices in, out.
  for (const [name, value] of Object.entries(tensors)) {
    if (value.rank === 4) tensors[name] = tf.transpose(value, [2, 3, 1, 0]);
    if (value.rank === 2 && !name.includes("classes")) tensors[name] = tf.transpose(value);
  }
  const get = (name, kind) => tensors[`${name}.${kind}`];
  const silu = (x) => tf.mul(x, tf.sigmoid(x));
  const linear = (name, x) => tf.add(tf.matMul(x, get(name, "weight")), get(name, "bias"));
  const conv = (name, x, stride = 1) => {
    const kernel = get(name, "weight");
    // PyTorch pads both sides by one, where TensorFlow's "same" would pad only the far ones of a stride of 2.
    const pad = kernel.shape[0] === 3 ? [[0, 0], [1, 1], [1, 1], [0, 0]] : "valid";
    return tf.add(tf.conv2d(x, kernel, stride, pad), get(name, "bias"));
  };
  const groupNorm = (name, x, groups) => {  // Eq. (6.9)
    const [n, height, width, c] = x.shape;
    const cut = tf.reshape(x, [n, height * width, groups, c / groups]);
    const m = tf.mean(cut, [1, 3], true);
    const centred = tf.sub(cut, m);
    const v = tf.mean(tf.square(centred), [1, 3], true);
    const normed = tf.reshape(tf.mul(centred, tf.rsqrt(tf.add(v, 1e-5))), x.shape);
    return tf.add(tf.mul(normed, get(name, "weight")), get(name, "bias"));
  };
  const norm = (name, x) => groupNorm(name, x, x.shape[3] % 16 ? 1 : x.shape[3] / 16);

  const attend = (name, x, heads = 4) => {  // Eqs. (6.2) and (6.4)
    const [n, height, width, c] = x.shape;
    const tokens = tf.reshape(groupNorm(`${name}.norm`, x, 1), [n * height * width, c]);
    const qkv = tf.reshape(linear(`${name}.qkv`, tokens), [n, height * width, 3, heads, c / heads]);
    const [q, k, v] = tf.unstack(tf.transpose(qkv, [2, 0, 3, 1, 4]));
    const found = tf.softmax(tf.mul(tf.matMul(q, k, false, true), (c / heads) ** -0.5));
    const joined = tf.reshape(tf.transpose(tf.matMul(found, v), [0, 2, 1, 3]), [n * height * width, c]);
    return tf.add(x, tf.reshape(linear(`${name}.out`, joined), x.shape));
  };
  const block = (name, x, vector) => {
    let h = conv(`${name}.conv1`, silu(norm(`${name}.norm1`, x)));
    const [scale, shift] = tf.split(tf.reshape(linear(`${name}.film.layer`, vector), [x.shape[0], 1, 1, -1]), 2, 3);
    h = silu(tf.add(tf.mul(norm(`${name}.norm2`, h), tf.add(1, scale)), shift));  // Eq. (4.6)
    h = tf.add(get(`${name}.skip`, "weight") ? conv(`${name}.skip`, x) : x, conv(`${name}.conv2`, h));
    return get(`${name}.attention.out`, "weight") ? attend(`${name}.attention`, h) : h;
  };
  const told = (name, logSnr) => {  // Eq. (4.4)
    const dim = 2 * widths[0];
    const position = 50 * Math.min(Math.max(logSnr, -20), 20);
    const angles = course.range(dim / 2, (i) => position * Math.exp((-Math.log(10000) * i) / Math.max(dim / 2 - 1, 1)));
    const waves = tf.tensor([[...angles.map(Math.cos), ...angles.map(Math.sin)]]);
    return linear(`${name}.2`, silu(linear(`${name}.0`, waves)));
  };
  const embed = (logSnr, labels, logSnrR) => {
    const time = told("embed.layers", logSnr);
    const both = get("embed.second.0", "weight") ? tf.add(time, told("embed.second", logSnrR)) : time;
    return silu(tf.add(both, tf.gather(tensors["embed.classes.weight"], labels.map((label) => label + 1))));
  };
  const doubled = (x) => {  // the nearest pixel; of `tf.image.resizeNearestNeighbor` no gradient is known to WebAssembly
    const [n, height, width, c] = x.shape;
    const wide = tf.reshape(tf.concat([x, x], 3), [n * height, 2 * width * c]);
    return tf.reshape(tf.concat([wide, wide], 1), [n, 2 * height, 2 * width, c]);
  };
  const network = (x, logSnr, labels, logSnrR) => {
    const vector = embed(logSnr, labels, logSnrR);
    const skips = [];
    // Space to depth, Eq. (6.8). With one channel, both libraries agree on the order of the new ones.
    const [n, height, width] = x.shape;
    const cut = tf.reshape(x, [n, height / stem, stem, width / stem, stem]);
    let h = conv("first", tf.reshape(tf.transpose(cut, [0, 1, 3, 2, 4]), [n, height / stem, width / stem, stem ** 2]));
    widths.forEach((_, level) => {
      for (let b = 0; b < blocks; b++) skips.push((h = block(`down.${level}.${b}`, h, vector)));
      if (level + 1 < widths.length) h = conv(`shrink.${level}`, h, 2);
    });
    h = block("middle.0", h, vector);
    for (let level = widths.length - 1; level >= 0; level--) {
      for (let b = 0; b < blocks; b++) h = block(`up.${level}.${b}`, tf.concat([h, skips.pop()], 3), vector);
      if (level) h = doubled(h);
    }
    const last = tf.reshape(conv("last", silu(norm("last_norm", h))), [n, height / stem, width / stem, stem, stem]);
    return tf.reshape(tf.transpose(last, [0, 1, 3, 2, 4]), x.shape);
  };

  // Denoiser of v, Eqs. (4.8) and (4.9), of a tensor (n, 28, 28, 1)
  const guess = (x, t, labels, r) => {
    const [alpha, sigma] = [schedule.alpha(t), schedule.sigma(t)];
    const variance = alpha ** 2 * std ** 2 + sigma ** 2;
    const [skip, out] = [(alpha * std ** 2) / variance, (std * sigma) / Math.sqrt(variance)];
    const centred = tf.sub(x, alpha * mean);
    const F = network(tf.mul(centred, variance ** -0.5), schedule.logSnr(t), labels, schedule.logSnr(r));
    return tf.add(mean, tf.sub(tf.mul(skip, centred), tf.mul(out, F)));
  };
  const pictures = (x) => tf.tensor(x, [x.length / 784, 28, 28, 1]);
  const denoise = async (x, t, labels, r = t) => {
    const answer = tf.tidy(() => guess(pictures(x), t, labels, r));
    const found = await answer.data();
    answer.dispose();
    return found;
  };
  return { denoise, schedule, guess, pictures };
};
