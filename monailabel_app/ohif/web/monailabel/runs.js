/**
 * Label maps slice by slice, as the server sends and takes them: runs `[count, label, count, label, …]`, row after row.
 * @module
 */

/**
 * @param {Uint8Array} pixels labels of one slice, row after row
 * @returns {number[]} `[count, label, …]`
 */
export function encodeRuns(pixels) {
  const runs = [];
  let start = 0;
  for (let i = 1; i <= pixels.length; i++) {
    if (i === pixels.length || pixels[i] !== pixels[start]) {
      runs.push(i - start, pixels[start]);
      start = i;
    }
  }
  return runs;
}

/**
 * @param {number[]} runs `[count, label, …]`
 * @param {number} size pixels of a slice
 * @returns {Uint8Array} labels, row after row
 * @throws {Error} if the runs do not fill the slice
 */
export function decodeRuns(runs, size) {
  const pixels = new Uint8Array(size);
  let at = 0;
  for (let i = 0; i + 1 < runs.length; i += 2) {
    pixels.fill(runs[i + 1], at, at + runs[i]);
    at += runs[i];
  }
  if (at !== size) {
    throw new Error(`the label has ${at} pixels in a slice, the image ${size}`);
  }
  return pixels;
}

/** @param {import('./types').Label} label @returns {Map<string, Uint8Array>} labels by the name of their slice */
export function decodeSlices({ slices, rows, columns }) {
  return new Map(slices.map((slice) => [keyOf(slice), decodeRuns(slice.runs, rows * columns)]));
}

/**
 * The name of a slice, to find it by.
 * @param {{uid: string, frame: number}} slice
 * @returns {string}
 */
export function keyOf({ uid, frame }) {
  return `${uid}/${frame}`;
}

/**
 * The slices between two of them, both included.
 * @template T
 * @param {T[]} slices in the order of their position
 * @param {number} first counted from 1
 * @param {number} last counted from 1
 * @returns {T[]}
 * @throws {RangeError} if there are no such slices
 */
export function sliceRange(slices, first, last) {
  const whole = Number.isInteger(first) && Number.isInteger(last);
  if (!whole || first < 1 || last > slices.length || first > last) {
    throw new RangeError(`slices ${first} to ${last}: there are 1 to ${slices.length}`);
  }
  return slices.slice(first - 1, last);
}
