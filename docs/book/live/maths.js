// What the lessons derive, once more in the browser's language: noise, schedules, time grids, samplers.
// tests/test_live.py holds each against the course's own functions.
"use strict";
window.course = window.course || { widgets: {}, data: {} };

// ---------------------------------------------------------------- PyTorch's noise: the same seed, the same numbers

// torch.Generator().manual_seed(seed) and torch.randn: a Mersenne Twister, and Box and Muller's formula on sixteens.
course.generator = (seed) => {
  const state = new Uint32Array(624);
  let next = 624;
  state[0] = seed;
  for (let i = 1; i < 624; i++) {
    state[i] = Math.imul(1812433253, state[i - 1] ^ (state[i - 1] >>> 30)) + i;
  }
  const twist = () => {
    for (let i = 0; i < 624; i++) {
      const y = (state[i] & 0x80000000) | (state[(i + 1) % 624] & 0x7fffffff);
      state[i] = state[(i + 397) % 624] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    next = 0;
  };
  const uniform = () => {
    if (next === 624) twist();
    let y = state[next++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    y ^= y >>> 18;
    return (y & 0xffffff) / 2 ** 24;
  };
  const normals = (x) => {
    for (let j = 0; j < 8; j++) {
      const radius = Math.sqrt(-2 * Math.log(1 - x[j]));
      const angle = 2 * Math.PI * x[j + 8];
      x[j] = radius * Math.cos(angle);
      x[j + 8] = radius * Math.sin(angle);
    }
  };
  return {
    randn: (n) => {  // n >= 16
      const x = Float32Array.from({ length: n }, uniform);
      for (let i = 0; i + 16 <= n; i += 16) normals(x.subarray(i, i + 16));
      if (n % 16) {  // PyTorch draws the last sixteen once more
        const last = x.subarray(n - 16);
        for (let i = 0; i < 16; i++) last[i] = uniform();
        normals(last);
      }
      return x;
    },
  };
};

// ---------------------------------------------------------------- schedules

const sigmoid = (x) => 1 / (1 + Math.exp(-x));
const range = (n, f) => Array.from({ length: n }, (_, i) => f(i));
course.range = range;

const fromBetas = (betas) => {
  const alphaBar = [1];
  for (const beta of betas) alphaBar.push(alphaBar.at(-1) * (1 - beta));
  return {
    T: betas.length,
    alphaBar,
    alpha: (t) => Math.sqrt(alphaBar[t]),
    sigma: (t) => Math.sqrt(1 - alphaBar[t]),
    logSnr: (t) => Math.log(alphaBar[t]) - Math.log1p(-alphaBar[t]),
  };
};
const fromFunction = (f, T = 1000, maxBeta = 0.999) =>
  fromBetas(range(T, (i) => Math.min(1 - f((i + 1) / T) / f(i / T), maxBeta)));

course.schedules = {
  // Eq. (2.1)
  linear: (betaT = 0.02, beta1 = 1e-4, T = 1000) => fromBetas(range(T, (i) => beta1 + (i / (T - 1)) * (betaT - beta1))),
  exponential: (betaT = 0.04, beta1 = 1e-4, T = 1000) =>
    fromBetas(range(T, (i) => beta1 * (betaT / beta1) ** (i / (T - 1)))),
  // Eq. (2.2)
  cosine: (s = 0.008) => fromFunction((u) => Math.cos((((u + s) / (1 + s)) * Math.PI) / 2) ** 2),
  sigmoid: (tau = 1, a = -3, b = 3) => {
    const h = (u) => sigmoid((a + u * (b - a)) / tau);
    return fromFunction((u) => (h(1) - h(u)) / (h(1) - h(0)));
  },
  vpLinear: (min = 0.1, max = 20) => {  // continuous time
    const logAlpha = (t) => (-(t ** 2) * (max - min)) / 4 - (t * min) / 2;
    const schedule = {
      alpha: (t) => Math.exp(logAlpha(t)),
      sigma: (t) => Math.sqrt(-Math.expm1(2 * logAlpha(t))),
      logSnr: (t) => 2 * (logAlpha(t) - Math.log(schedule.sigma(t))),
      tAtLogSnr: (wanted) => bisect((t) => schedule.logSnr(t) > wanted, 0, 1),
    };
    return schedule;
  },
};

// The place where a condition that holds at first ends to hold.
const bisect = (holds, low, high) => {
  for (let i = 0; i < 70; i++) {
    const middle = (low + high) / 2;
    if (holds(middle)) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
};
course.bisect = bisect;

// n steps of equal length, T … 0; half-way cases to the even time, as Python rounds.
course.uniformGrid = (schedule, n) =>
  range(n + 1, (i) => {
    const t = (schedule.T * (n - i)) / n;
    return t % 1 === 0.5 ? 2 * Math.round(t / 2) : Math.round(t);
  });

// x_t = alpha_t x_0 + sigma_t eps, Eq. (1.4)
course.qSample = (x0, t, schedule, eps) => x0.map((x, i) => schedule.alpha(t) * x + schedule.sigma(t) * eps[i]);

// The noise on the way from a to b along the sphere, Eq. (14.14)
course.slerp = (a, b, s) => {
  const dot = (x, y) => x.reduce((sum, value, i) => sum + value * y[i], 0);
  const theta = Math.acos(dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b)));
  const [first, second] = [(1 - s) * theta, s * theta].map((angle) => Math.sin(angle) / Math.sin(theta));
  return a.map((x, i) => first * x + second * b[i]);
};

// ---------------------------------------------------------------- samplers

// A linear combination of arrays: mix([a, x], [b, y]) is a x + b y.
const mix = (...terms) => terms[0][1].map((_, i) => terms.reduce((sum, [factor, x]) => sum + factor * x[i], 0));
course.mix = mix;

// From x at the first time of the grid to its last: after each step, what is known. `denoise(x, t)` may be slow, and is
// waited for. A step is `(x, t, s, guess, ask, before) => x_s`, where ask(x, t) is one more call of the denoiser.
course.walk = async function* (step, denoise, x, schedule, grid) {
  let before = null;
  for (let i = 0; i + 1 < grid.length; i++) {
    const [t, s] = [grid[i], grid[i + 1]];
    const guess = await denoise(x, t);
    const xs = await step({ x, t, s, guess, before, schedule, ask: denoise, i, grid });
    before = { x, t, s, guess, before };
    yield { t, s, x, guess, xs };
    x = xs;
  }
};

// The exact step for a guess that stays as it is, Eq. (11.10).
const advance = (schedule, x, t, s, guess) => {
  const a = schedule.sigma(s) / schedule.sigma(t);
  return mix([a, x], [schedule.alpha(s) - a * schedule.alpha(t), guess]);
};
const half = (schedule, t) => schedule.logSnr(t) / 2;

course.steps = {
  // Eq. (10.6): eta = 1 is ancestral sampling, Eq. (3.19). `noise(n)` is asked for only if eta > 0, at every step.
  ddim: (eta = 0, noise = null) => ({ x, t, s, guess, schedule }) => {
    const [at, as, st, ss] = [schedule.alpha(t), schedule.alpha(s), schedule.sigma(t), schedule.sigma(s)];
    const variance = st ** 2 - ((at / as) * ss) ** 2;
    const c = (eta * Math.sqrt(variance) * ss) / st;
    const kept = Math.sqrt(Math.max(ss ** 2 - c ** 2, 0)) / st;
    const drawn = eta > 0 ? noise(x.length) : x;
    return mix([kept, x], [as - kept * at, guess], [eta > 0 ? c : 0, drawn]);
  },
  // Eq. (11.7)
  heun: async ({ x, t, s, guess, schedule, ask }) => {
    const [at, as] = [schedule.alpha(t), schedule.alpha(s)];
    const [rt, rs] = [schedule.sigma(t) / at, schedule.sigma(s) / as];
    const y = mix([1 / at, x]);
    const slope = mix([1 / rt, y], [-1 / rt, guess]);
    const euler = mix([1, y], [rs - rt, slope]);
    if (rs === 0) return mix([as, euler]);
    const there = mix([1 / rs, euler], [-1 / rs, await ask(mix([as, euler]), s)]);
    return mix([as, y], [(as * (rs - rt)) / 2, slope], [(as * (rs - rt)) / 2, there]);
  },
  // Eq. (11.11), a look at the middle in lambda
  dpmpp2s: async ({ x, t, s, guess, schedule, ask }) => {
    const middle = half(schedule, t) + half(schedule, s);
    const u = schedule.tAtLogSnr(middle);
    const r = (half(schedule, u) - half(schedule, t)) / (half(schedule, s) - half(schedule, t));
    const there = await ask(advance(schedule, x, t, u, guess), u);
    return advance(schedule, x, t, s, mix([1 - 1 / (2 * r), guess], [1 / (2 * r), there]));
  },
  // Eq. (11.11), the last guess remembered
  dpmpp2m: ({ x, t, s, guess, before, schedule }) => {
    const h = half(schedule, s) - half(schedule, t);
    if (!before || !Number.isFinite(h)) return advance(schedule, x, t, s, guess);
    const r = h / (2 * (half(schedule, t) - half(schedule, before.t)));
    return advance(schedule, x, t, s, mix([1 + r, guess], [-r, before.guess]));
  },
};

// Eq. (11.12), for grids that do not end at clean data: predict with the last `order` guesses, and correct the step
// before by the guess that is made at its end anyway.
course.unipc = async function* (order, denoise, x, schedule, grid) {
  const lambdas = grid.map((t) => half(schedule, t));
  const guesses = [];
  let [start, used] = [null, 0];
  const unify = (x, i, order, fresh = null) => {
    const h = lambdas[i + 1] - lambdas[i];
    const plain = advance(schedule, x, grid[i], grid[i + 1], guesses[i]);
    const earlier = range(Math.min(order - 1, i), (k) => i - 1 - k);
    const nodes = earlier.map((k) => (lambdas[k] - lambdas[i]) / h).concat(fresh ? [1] : []);
    const values = earlier.map((k) => guesses[k]).concat(fresh ? [fresh] : []);
    if (!nodes.length) return plain;
    const B = Math.expm1(-h);
    let [phi, factorial] = [B / -h - 1, 1];
    const b = range(nodes.length, (m) => {
      const value = (phi * factorial) / B;
      factorial *= m + 2;
      phi = phi / -h - 1 / factorial;
      return value;
    });
    const rho = nodes.length === 1 ? [0.5] : solve(nodes.map((_, m) => nodes.map((r) => r ** m)), b);
    const weights = rho.map((value, k) => (-schedule.alpha(grid[i + 1]) * B * value) / nodes[k]);
    const all = weights.reduce((sum, w) => sum + w, 0);
    return mix([1, plain], [-all, guesses[i]], ...weights.map((w, k) => [w, values[k]]));
  };
  for (let i = 0; i + 1 < grid.length; i++) {
    const guess = await denoise(x, grid[i]);
    if (start) x = unify(start, i - 1, used, guess);
    guesses.push(guess);
    used = Math.min(order, i + 1);
    start = x;
    x = unify(start, i, used);
    yield { t: grid[i], s: grid[i + 1], x: start, guess, xs: x };
  }
};

// A small linear system, by elimination.
const solve = (matrix, b) => {
  const rows = matrix.map((row, i) => [...row, b[i]]);
  const n = rows.length;
  for (let i = 0; i < n; i++) {
    const pivot = range(n - i, (k) => k + i).reduce((p, k) => (Math.abs(rows[k][i]) > Math.abs(rows[p][i]) ? k : p), i);
    [rows[i], rows[pivot]] = [rows[pivot], rows[i]];
    for (let k = 0; k < n; k++) {
      if (k !== i) {
        const factor = rows[k][i] / rows[i][i];
        rows[k] = rows[k].map((value, j) => value - factor * rows[i][j]);
      }
    }
  }
  return rows.map((row, i) => row[n] / row[i]);
};
