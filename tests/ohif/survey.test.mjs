import assert from 'node:assert/strict';
import test from 'node:test';
import { Survey, same } from '../../monailabel_app/ohif/web/monailabel/survey.js';

const NAMES = ['a', 'b'].map((uid) => ({ uid, frame: 1 }));

/** @param {...number[]} rows */
function slicesOf(...rows) {
  return rows.map((row, i) => ({ name: NAMES[i], pixels: Uint8Array.from(row) }));
}

test('a survey counts labels and tells label maps apart', () => {
  const { slices, counts, hash } = new Survey().take(slicesOf([0, 1, 1], [2, 0, 1]));
  assert.deepEqual(counts.slice(0, 4), [2, 3, 1, 0]);
  assert.deepEqual(slices, [
    { uid: 'a', frame: 1, runs: [1, 0, 2, 1] },
    { uid: 'b', frame: 1, runs: [1, 2, 1, 0, 1, 1] },
  ]);
  assert.equal(new Survey().take(slicesOf([0, 1, 1], [2, 0, 1])).hash, hash);
  assert.notEqual(new Survey().take(slicesOf([0, 1, 1], [2, 1, 0])).hash, hash);
  assert.notEqual(new Survey().take(slicesOf([2, 0, 1], [0, 1, 1])).hash, hash);
});

test('only what has changed is worked out again, and a change in place is seen', () => {
  const survey = new Survey();
  const slices = slicesOf([0, 1, 1], [2, 0, 1]);
  const first = survey.take(slices);
  slices[1].pixels[1] = 2;
  const second = survey.take(slices);
  assert.equal(second.slices[0].runs, first.slices[0].runs);
  assert.deepEqual(second.slices[1].runs, [2, 2, 1, 1]);
  assert.deepEqual(second.counts.slice(0, 3), [1, 3, 2]);
  slices[1].pixels[1] = 0;
  assert.equal(survey.take(slices).hash, first.hash);
});

test('arrays are the same by length and content', () => {
  assert.ok(same(Uint8Array.of(1, 2), Uint8Array.of(1, 2)));
  assert.ok(!same(Uint8Array.of(1, 2), Uint8Array.of(1, 3)));
  assert.ok(!same(Uint8Array.of(1, 2), Uint8Array.of(1, 2, 3)));
});
