/**
 * What the panel tells of a case: its state, what goes on, what went wrong, what to look at.
 * @module
 */
import { checksOf } from './checks.js';
import { button, dateText, el } from './dom.js';
import { warningsOf } from './organs.js';
import { LOGGED_OUT, NO_ANSWER } from './server.js';

const MARKS = { error: '✕ ', warn: '⚠ ', done: '✓ ' };
const FEW = 4; // organs that are named in one line

/** @typedef {(action: string) => any} MakeButton makes the button of an action */

/** @param {import('./types').Case | null} current */
export function badge(current) {
  const { label, origin, dirty, reviewed } = current || {};
  const [kind, text] = !label
    ? ['none', current ? 'No label yet' : 'Open a study']
    : dirty
      ? ['changed', 'Changed, not stored']
      : origin.tag === 'final'
        ? ['stored', `Stored by ${origin.by}${reviewed ? `, approved by ${reviewed}` : ''}`]
        : ['automatic', 'Automatic, not reviewed'];
  const made = label ? [origin.model && `${origin.model} ${origin.model_version}`, dateText(origin.time)] : [];
  const waits = origin?.tag === 'final' && origin.pacs === 'waits' && 'the PACS does not have it yet';
  const more = [...made, waits].filter(Boolean).join(' · ');
  return el('div', { className: `badge ${kind}`, data: 'ml-badge' }, text, el('div', { className: 'small', textContent: more }));
}

/**
 * @param {import('./session.js').Session} session
 * @param {MakeButton} action
 * @returns {any[]}
 */
export function messages(session, action) {
  const { current, problem } = session;
  return [
    problem && trouble(problem, action),
    current?.draft && offer(session, current.draft),
    current?.busy && progress(current, session.now()),
    current?.message && told(current.message, action),
    current?.label && toCheck(current),
  ].filter(Boolean);
}

/** @param {string} problem @param {MakeButton} action */
function trouble(problem, action) {
  const again = problem === NO_ANSWER && ' It is asked again every few seconds; what you draw is kept in this browser.';
  return el('div', { className: 'error', data: 'ml-problem', role: 'alert' }, problem, again, problem === LOGGED_OUT && action('login'));
}

/** @param {import('./session.js').Session} session @param {import('./types').Draft} draft */
function offer(session, draft) {
  const text = `There are changes of ${new Date(draft.saved).toLocaleString()} that were not stored.`;
  const restore = button('Restore', () => session.restore(draft), { data: 'ml-restore' });
  const buttons = el('div', { className: 'ml-row' }, restore, button('Discard', () => session.discard()));
  return el('div', { className: 'badge changed', data: 'ml-draft' }, text, buttons);
}

/** @param {import('./types').Case} opened @param {number} now */
function progress({ busy, since, stop }, now) {
  const seconds = Math.round((now - since) / 1000);
  const text = el('span', { className: 'small', role: 'status' }, busy, el('span', { ariaHidden: 'true' }, seconds > 1 && ` ${seconds} s`));
  const cancel = stop && button('Stop', stop, { className: 'plain', data: 'ml-stop' });
  return el('div', { data: 'ml-busy' }, el('progress', { ariaLabel: busy }), el('div', { className: 'ml-row' }, text, cancel));
}

/** @param {import('./types').Message} message @param {MakeButton} action */
function told({ kind, text, actions = [] }, action) {
  const role = kind === 'error' ? 'alert' : 'status';
  const mark = el('span', { ariaHidden: 'true' }, MARKS[kind]);
  const buttons = actions.length > 0 && el('div', { className: 'ml-row' }, ...actions.map(action));
  return el('div', { className: kind === 'warn' ? 'check' : kind, data: `ml-${kind}`, role }, el('div', {}, mark, text), buttons);
}

/** What makes the whole label doubtful; what makes an organ so stands beside the organ. @param {import('./types').Case} opened */
function toCheck(opened) {
  const { general, organs } = checksOf(warningsOf(opened), opened.label.segments);
  const named = opened.label.segments.filter(({ id }) => organs.has(id)).map(({ name }) => name);
  const which = named.length > FEW ? `${named.length} organs` : named.join(', ');
  const lines = [...general, ...(named.length ? [`see below: ${which}`] : [])];
  const list = el('ul', {}, ...lines.map((line) => el('li', { textContent: line })));
  return lines.length > 0 && el('div', { className: 'check', data: 'ml-check', role: 'status' }, el('b', {}, '⚠ Check before you trust it'), list);
}
