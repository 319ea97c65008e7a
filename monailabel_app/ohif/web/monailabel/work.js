/**
 * The work list, and learning from corrections.
 * @module
 */
import { button, el } from './dom.js';

/** How strategies of the server are called here. */
export const STRATEGIES = { first: 'in order', random: 'at random', uncertainty: 'most uncertain first' };

/** @param {import('./types').Overview | null} overview */
export function workText(overview) {
  const { total = 0, corrected = 0, reviewed = 0 } = overview?.progress || {};
  const text = total ? `${corrected + reviewed} of ${total} series have a stored label, ${reviewed} approved` : 'Looking for series in the PACS…';
  return el('div', { className: 'small', textContent: text });
}

/**
 * @param {import('./session.js').Session} session
 * @param {(action: () => Promise<any>) => void} ask does something and tells why not
 * @returns {any[]}
 */
export function training(session, ask) {
  const { overview, server, model, name } = session;
  if (!overview?.training) {
    return [];
  }
  const { running, failed } = overview.training;
  if (running) {
    return underWay(overview.training, () => ask(() => server.stopTraining()));
  }
  const start = () => ask(() => server.train(model, name));
  const stored = overview.progress ? overview.progress.corrected + overview.progress.reviewed : 0;
  const disabled = !stored || !model;
  const title = disabled ? 'Store a label first.' : `train ${model} further on the stored labels`;
  return [
    el('div', { className: 'ml-row' }, button('Learn from corrections', start, { data: 'ml-train', disabled, title })),
    disabled && el('div', { className: 'small', textContent: 'There is no stored label to learn from yet.' }),
    lastText(overview.training, model),
    failed && el('div', { className: 'error', data: 'ml-failed' }, `The last training has failed: ${failed}`),
    ...waiting(session, ask),
  ];
}

/** @param {import('./types').Training} training @param {() => void} onstop */
function underWay({ model, progress }, onstop) {
  const { epoch = 0, total_epochs: total = 0, best_metric: best } = progress[model] || {};
  const dice = best === null || best === undefined ? '' : `, Dice ${best.toFixed(3)}`;
  const text = total ? `${model}: epoch ${epoch} of ${total}${dice}` : `${model}: starting…`;
  const bar = el('progress', { max: total || 1, ariaLabel: 'training', ...(total && { value: epoch }) });
  return [bar, el('div', { className: 'ml-row' }, el('span', { className: 'small' }, text), button('Stop', onstop, { className: 'plain' }))];
}

/** @param {import('./types').Training} training @param {string} model */
function lastText({ progress }, model) {
  const { epoch = 0, total_epochs: total = 0, best_metric: best } = progress[model] || {};
  const dice = best === null || best === undefined ? '' : `, Dice ${best.toFixed(3)}`;
  return epoch > 0 && el('div', { className: 'small' }, `last training of ${model}: ${epoch} of ${total} epochs${dice}`);
}

/** Versions that were learnt and are not used. @param {import('./session.js').Session} session @param {(action: () => Promise<any>) => void} ask */
function waiting({ overview, server, name }, ask) {
  return overview.models.filter(({ waits }) => waits).map(({ name: model, version: served, waits: { version, dice } }) => {
    const scores = dice && dice.new !== null && dice.served !== null ? `mean Dice ${dice.new.toFixed(3)}, ${served} has ${dice.served.toFixed(3)}` : 'not compared, no patient is held out yet';
    const use = button(`Use ${version}`, () => ask(() => server.promote(model, version, name)), { data: 'ml-promote', disabled: !name });
    return el('div', { className: 'badge none', data: 'ml-waits' }, `${model} ${version} is learnt and not in use`, el('div', { className: 'small' }, scores), use);
  });
}
