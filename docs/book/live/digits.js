// What the build packs: bytes, deflated, in base64; and training digits of MNIST, packed so.
"use strict";
course.make = course.make || {};
course.inflated = async (base64) => {
  const packed = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
};
course.make.digits = async () => {
  const { pixels, labels } = course.data.digits;
  const bytes = await course.inflated(pixels);
  const pictures = Array.from(labels, (_, n) =>
    Float32Array.from(bytes.subarray(784 * n, 784 * (n + 1)), (grey) => grey / 127.5 - 1),
  );
  return { pictures, labels: Array.from(labels, Number) };
};
