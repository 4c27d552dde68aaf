// The ways back through what the U-Net is made of: the packed TensorFlow.js knows none, and loads no modules from a
// file. For `tf.grad` with respect to the input: of a convolution's kernel there is no gradient.
"use strict";
course.make = course.make || {};
course.make.gradients = async () => {
  // What was spread over axes is summed over them.
  const onto = (shape, x) => {
    const spread = x.shape.map((_, i) => i).filter((i) => {
      const own = shape[i - (x.rank - shape.length)] ?? 1;
      return own === 1 && x.shape[i] > 1;
    });
    return tf.reshape(spread.length ? tf.sum(x, spread, true) : x, shape);
  };
  const kept = (x, axis) => {  // its shape with 1 for what is summed, by default all of it
    const gone = axis == null ? null : [axis].flat().map((a) => (a + x.rank) % x.rank);
    return x.shape.map((size, i) => (gone === null || gone.includes(i) ? 1 : size));
  };
  const back = (kernelName, inputsToSave, gradFunc, more = {}) =>
    tf.registerGradient({ kernelName, inputsToSave, gradFunc, ...more });

  back("Add", ["a", "b"], (dy, [a, b]) => ({ a: () => onto(a.shape, dy), b: () => onto(b.shape, dy) }));
  back("Sub", ["a", "b"], (dy, [a, b]) => ({ a: () => onto(a.shape, dy), b: () => onto(b.shape, tf.neg(dy)) }));
  back("Multiply", ["a", "b"], (dy, [a, b]) => ({
    a: () => onto(a.shape, tf.mul(dy, b)),
    b: () => onto(b.shape, tf.mul(dy, a)),
  }));
  back("Square", ["x"], (dy, [x]) => ({ x: () => tf.mul(dy, tf.mul(2, x)) }));
  back("Rsqrt", ["x"], (dy, [x]) => ({ x: () => tf.mul(dy, tf.mul(-0.5, tf.div(tf.rsqrt(x), x))) }));
  back("Sigmoid", [], (dy, [y]) => ({ x: () => tf.mul(dy, tf.mul(y, tf.sub(1, y))) }), { outputsToSave: [true] });
  back("Softmax", [], (dy, [y], { dim }) => {
    const dot = () => tf.sum(tf.mul(dy, y), dim, true);
    return { logits: () => tf.mul(y, tf.sub(dy, dot())) };
  }, { outputsToSave: [true] });
  back("Sum", ["x"], (dy, [x], { axis }) => ({ x: () => tf.mul(tf.reshape(dy, kept(x, axis)), tf.onesLike(x)) }));
  back("Mean", ["x"], (dy, [x], { axis }) => ({
    x: () => tf.mul(tf.reshape(dy, kept(x, axis)), tf.fill(x.shape, dy.size / x.size)),
  }));
  back("Reshape", ["x"], (dy, [x]) => ({ x: () => tf.reshape(dy, x.shape) }));
  back("Transpose", [], (dy, _, { perm }) => ({ x: () => tf.transpose(dy, perm.map((_, i) => perm.indexOf(i))) }));
  back("Concat", [], (dy, all, { axis }) => {
    const parts = tf.split(dy, all.map((x) => x.shape[axis]), axis);
    return parts.map((part) => () => part);
  }, { saveAllInputs: true });
  back("SplitV", [], (dys, _, { axis }) => ({ x: () => tf.concat(dys, axis) }));
  back("Unpack", [], (dys, _, { axis }) => ({ value: () => tf.stack(dys, axis) }));
  back("BatchMatMul", ["a", "b"], (dy, [a, b], { transposeB }) => ({  // never with transposeA here
    a: () => tf.matMul(dy, b, false, !transposeB),
    b: () => (transposeB ? tf.matMul(dy, a, true) : tf.matMul(a, dy, true)),
  }));
  back("Conv2D", ["x", "filter"], (dy, [x, filter], { strides, pad }) => ({
    x: () => tf.conv2dTranspose(dy, filter, x.shape, strides, pad),
  }));
};
