/** A label of one slice of a row. */
export function encodeSlices(segments, values) {
  const runs = [];
  for (const value of values) {
    if (runs.at(-1) === value) {
      runs[runs.length - 2] += 1;
    } else {
      runs.push(1, value);
    }
  }
  return { image: 'S', rows: 1, columns: values.length, segments, slices: [{ uid: 'a', frame: 1, runs }] };
}
