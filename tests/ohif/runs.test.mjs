import assert from 'node:assert/strict';
import test from 'node:test';
import { decodeRuns, encodeRuns, keyOf, sliceRange } from '../../monailabel_app/ohif/web/monailabel/runs.js';

test('runs say count and label, row after row', () => {
  assert.deepEqual(encodeRuns(Uint8Array.of(0, 0, 0, 2, 2, 0, 1)), [3, 0, 2, 2, 1, 0, 1, 1]);
  assert.deepEqual(encodeRuns(new Uint8Array(5)), [5, 0]);
  assert.deepEqual(encodeRuns(new Uint8Array(0)), []);
});

test('runs give the pixels back', () => {
  const pixels = Uint8Array.from({ length: 1443 }, (_, i) => (i * i) % 5);
  assert.deepEqual(decodeRuns(encodeRuns(pixels), 1443), pixels);
});

test('runs that do not fill the slice are refused', () => {
  assert.throws(() => decodeRuns([3, 0, 2, 1], 6), /5 pixels in a slice, the image 6/);
  assert.throws(() => decodeRuns([3, 0, 9, 1], 6), /12 pixels/);
});

test('slices have names that find them', () => {
  assert.equal(keyOf({ uid: '1.2.3', frame: 4 }), '1.2.3/4');
});

test('a range has both its ends and stays inside', () => {
  assert.deepEqual(sliceRange(['a', 'b', 'c', 'd'], 2, 3), ['b', 'c']);
  for (const [first, last] of [[0, 2], [2, 5], [3, 2], [1.5, 2], [NaN, 2]]) {
    assert.throws(() => sliceRange(['a', 'b', 'c', 'd'], first, last), RangeError);
  }
});
