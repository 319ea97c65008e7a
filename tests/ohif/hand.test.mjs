import assert from 'node:assert/strict';
import test from 'node:test';

import { Hand } from '../../monailabel_app/ohif/web/monailabel/hand.js';

/** @param {string} type @param {number} [buttons] held down */
function event(type, buttons = 0) {
  return Object.assign(new Event(type), { buttons });
}

/** @returns {{page: EventTarget, hand: Hand, order: string[]}} with somebody who waits, once a button is down */
function waiting() {
  const page = new EventTarget();
  const hand = new Hand(page);
  hand.begin();
  page.dispatchEvent(event('pointerdown', 1));
  const order = [];
  hand.lifted().then(() => order.push('lifted'));
  return { page, hand, order };
}

const soon = () => new Promise((resolve) => setTimeout(resolve, 5));

test('nobody waits where nothing is held', async () => {
  const hand = new Hand(new EventTarget());
  hand.begin();
  await hand.lifted();
});

for (const end of ['pointerup', 'pointercancel', 'blur']) {
  test(`a stroke ends with ${end}, and those who wait come after its own handlers`, async () => {
    const { page, order } = waiting();
    page.dispatchEvent(event('pointermove', 1));
    await soon();
    assert.deepEqual(order, []);
    page.dispatchEvent(event(end));
    order.push('mouseup');
    await soon();
    assert.deepEqual(order, ['mouseup', 'lifted']);
  });
}

test('a button that was let go outside of the page is noticed', async () => {
  const { page, order } = waiting();
  page.dispatchEvent(event('pointermove', 0));
  await soon();
  assert.deepEqual(order, ['lifted']);
});

test('who presses again at once is waited for again', async () => {
  const { page, order } = waiting();
  page.dispatchEvent(event('pointerup'));
  page.dispatchEvent(event('pointerdown', 1));
  await soon();
  assert.deepEqual(order, []);
  page.dispatchEvent(event('pointerup'));
  await soon();
  assert.deepEqual(order, ['lifted']);
});

test('nobody waits for a viewer that is closed', async () => {
  const { page, hand, order } = waiting();
  hand.end();
  await soon();
  assert.deepEqual(order, ['lifted']);
  page.dispatchEvent(event('pointerdown', 1));
  await hand.lifted();
});
