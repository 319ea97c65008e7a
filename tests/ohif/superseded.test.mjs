import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Superseded } from '../../monailabel_app/ohif/web/monailabel/superseded.js';

const FIRST = [{ id: 1, name: 'liver' }, { id: 2, name: 'bladder' }];
const SECOND = [{ id: 1, name: 'bladder' }, { id: 2, name: 'liver' }];

test('a list that was replaced is known again, in whatever order', () => {
  const lists = new Superseded();
  lists.replace('a', FIRST, SECOND);
  assert.equal(lists.has('a', FIRST.toReversed()), true);
  assert.equal(lists.has('a', SECOND), false);
  assert.equal(lists.has('b', FIRST), false);
});

test('a list that is true again is none of them', () => {
  const lists = new Superseded();
  lists.replace('a', FIRST, SECOND);
  lists.replace('a', SECOND, FIRST);
  assert.equal(lists.has('a', FIRST), false);
  assert.equal(lists.has('a', SECOND), true);
});

test('the same list again is no replacement', () => {
  const lists = new Superseded();
  lists.replace('a', FIRST, FIRST);
  assert.equal(lists.has('a', FIRST), false);
});

test('what a person does next counts', () => {
  const lists = new Superseded();
  lists.replace('a', FIRST, SECOND);
  lists.forget('a');
  assert.equal(lists.has('a', FIRST), false);
});

test('old lists are forgotten', () => {
  const lists = new Superseded();
  const list = (n) => [{ id: n, name: 'liver' }];
  for (let n = 1; n < 60; n++) {
    lists.replace('a', list(n), list(n + 1));
  }
  assert.equal(lists.has('a', list(1)), false);
  assert.equal(lists.has('a', list(59)), true);
});
