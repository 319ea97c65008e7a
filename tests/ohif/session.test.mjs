import assert from 'node:assert/strict';
import test from 'node:test';
import { confidenceOf } from '../../monailabel_app/ohif/web/monailabel/checks.js';
import { emptyLabel, scopeOf, storedMessage } from '../../monailabel_app/ohif/web/monailabel/cases.js';
import { warningsOf } from '../../monailabel_app/ohif/web/monailabel/organs.js';
import { decodeRuns, keyOf } from '../../monailabel_app/ohif/web/monailabel/runs.js';
import { ServerError } from '../../monailabel_app/ohif/web/monailabel/server.js';
import { Session } from '../../monailabel_app/ohif/web/monailabel/session.js';

const NAMES = ['b', 'a', 'c'].map((uid) => ({ uid, frame: 1 })); // the viewer's order is not the server's
const SEGMENTS = [{ id: 1, name: 'liver' }, { id: 2, name: 'spleen' }];

/** A label of three slices of four pixels. */
function labelOf(rows, more = {}) {
  const slices = Object.entries(rows).map(([uid, runs]) => ({ uid, frame: 1, runs }));
  const about = { image: 'S', rows: 2, columns: 2, voxel_ml: 0.5, segments: SEGMENTS, model: 'm', model_version: '0.1.0' };
  return { ...about, tag: 'original', by: null, time: 1, digest: 'd0', slices, ...more };
}

const AUTOMATIC = labelOf({ a: [4, 1], b: [4, 0], c: [2, 0, 2, 2] });

/** A viewer that keeps arrays, as OHIF does. */
class FakeViewer {
  async strokeEnded() {}

  pixels = new Map(NAMES.map((name) => [keyOf(name), new Uint8Array(4)]));
  shown = null;

  async show(image, label) {
    this.shown = label.segments;
    this.replace(image, label);
  }

  replace(image, label) {
    this.shown = label.segments;
    label.slices.forEach((slice) => this.pixels.set(keyOf(slice), decodeRuns(slice.runs, 4)));
  }

  read() {
    return this.shown && NAMES.map((name) => ({ name, pixels: this.pixels.get(keyOf(name)) }));
  }

  segments() {
    return this.shown;
  }

  slices() {
    return NAMES;
  }

  grid() {
    return { rows: 2, columns: 2, voxel_ml: 0.5 };
  }

  currentSlice() {
    return NAMES[2];
  }
}

class FakeServer {
  state = { label: null };
  stored = [];
  refusal = null;

  async overview() {
    return { models: [{ name: 'm', version: '0.1.0', segments: SEGMENTS }], training: { running: false } };
  }

  async image() {
    return this.state;
  }

  async label() {
    return this.state.label;
  }

  async stopSegmenting(run) {
    this.stopped = run;
  }

  async review(image, who) {
    this.approved = { image, who };
  }

  async segment(image, model, slices, how) {
    this.asked = { image, model, slices };
    this.how = how;
    const wanted = slices && new Set(slices.map(({ uid }) => uid));
    return { ...AUTOMATIC, slices: AUTOMATIC.slices.filter(({ uid }) => !wanted || wanted.has(uid)) };
  }

  async store(image, submission) {
    if (this.refusal) {
      throw this.refusal;
    }
    this.stored.push(submission);
    return { tag: 'final', by: submission.client_id, time: 2, model: 'm', model_version: '0.1.0', pacs: 'stored', digest: 'd1' };
  }
}

function setUp() {
  const kept = new Map();
  const names = new Map();
  const renewed = [];
  const parts = {
    server: new FakeServer(),
    viewer: new FakeViewer(),
    drafts: {
      get: async (image) => [...kept.values()].filter(({ label }) => label.image === image).pop(),
      put: async (image, draft) => kept.set(draft.visit, draft),
      remove: async (image, visit) => kept.delete(visit),
    },
    results: { renew: async (image) => renewed.push(image) },
    storage: { getItem: (key) => names.get(key), setItem: (key, value) => names.set(key, value) },
    now: () => 1234,
  };
  return { ...parts, kept, renewed, session: new Session(parts) };
}

async function opened() {
  const all = setUp();
  await all.session.refresh();
  await all.session.open('S');
  all.session.setName(' Roe^Jane ');
  return all;
}

/** Paint as a person does. */
async function paint({ viewer, session }, uid, label) {
  viewer.pixels.get(`${uid}/1`).fill(label);
  session.modified('S');
  await new Promise((resolve) => setTimeout(resolve, 300));
}

test('what is drawn while the viewer still shows a label is neither lost nor taken for stored', async () => {
  const all = setUp();
  all.server.state = { label: AUTOMATIC };
  const show = all.viewer.show.bind(all.viewer);
  all.viewer.show = async (image, label) => {
    await show(image, label);
    all.viewer.pixels.get('b/1').fill(2);
    all.session.modified('S'); // OHIF tells it while we change the label ourselves
  };
  await all.session.open('S');
  assert.equal(all.session.current.dirty, true);
  await new Promise((resolve) => setTimeout(resolve, 300));
  assert.equal(all.kept.size, 1);
});

test('a result waits for the end of a stroke that is being drawn', async () => {
  const all = await opened();
  await all.session.segment(null);
  let lift;
  all.viewer.strokeEnded = () => new Promise((resolve) => {
    lift = resolve;
  });
  const shown = [];
  const show = all.viewer.show.bind(all.viewer);
  all.viewer.show = async (image, label) => {
    shown.push(image);
    await show(image, label);
  };
  const run = all.session.segment(null);
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.deepEqual(shown, []);
  all.viewer.pixels.get('b/1').fill(1); // the stroke goes on
  lift();
  await run;
  assert.deepEqual(shown, ['S']);
  assert.match(all.session.current.message.text, /drawn meanwhile is replaced: Ctrl\+Z/);
});

test('who draws while the series is segmented is told that it is replaced', async () => {
  const all = await opened();
  await all.session.segment(null);
  assert.equal(all.session.current.message.kind, 'done');
  const segment = all.server.segment.bind(all.server);
  const drawing = (uid) => async (...asked) => {
    all.viewer.pixels.get(`${uid}/1`).fill(1);
    return segment(...asked);
  };
  all.server.segment = drawing('b');
  await all.session.segment(null);
  assert.match(all.session.current.message.text, /Segmented.*drawn meanwhile is replaced: Ctrl\+Z/);
  assert.equal(all.session.current.message.kind, 'warn');
  all.server.segment = drawing('c'); // beside the slice that is asked for, so it stays
  await all.session.segment([NAMES[0]]);
  assert.equal(all.session.current.message.kind, 'done');
  assert.deepEqual([...all.viewer.pixels.get('c/1')], [1, 1, 1, 1]);
});

test('an image without a label shows none', async () => {
  const { session } = await opened();
  assert.equal(session.current.label, null);
  assert.equal(session.dirty, false);
});

test('who draws without a model begins with an empty label', async () => {
  const all = await opened();
  await all.session.show(all.session.current, emptyLabel('S', all.viewer, { id: 1, name: 'lesion' }), false);
  const { label, origin, dirty } = all.session.current;
  assert.deepEqual([label.segments, label.voxel_ml, origin.model, dirty], [[{ id: 1, name: 'lesion' }], 0.5, null, true]);
  assert.deepEqual(label.slices.map(({ uid, runs }) => [uid, runs]), NAMES.map(({ uid }) => [uid, [4, 0]]));
  await paint(all, 'b', 1);
  await all.session.store();
  assert.deepEqual(all.server.stored[0].segments, [{ id: 1, name: 'lesion' }]);
  assert.equal(all.server.stored[0].model, null);
});

test('slices find their place by name', async () => {
  const { session, viewer } = await opened();
  await session.segment(null);
  assert.deepEqual([...viewer.pixels.get('a/1')], [1, 1, 1, 1]);
  assert.deepEqual([...viewer.pixels.get('c/1')], [0, 0, 2, 2]);
  assert.deepEqual(session.current.counts.slice(0, 3), [6, 4, 2]);
  assert.equal(session.current.dirty, false);
  assert.equal(session.current.origin.tag, 'original');
});

test('segmenting some slices leaves the others', async () => {
  const all = await opened();
  await all.session.segment(null);
  await paint(all, 'a', 2);
  await paint(all, 'c', 1);
  await all.session.segment(scopeOf(all.viewer, 'S', 'slice'));
  assert.deepEqual(all.server.asked.slices, [{ uid: 'c', frame: 1 }]);
  assert.deepEqual([...all.viewer.pixels.get('a/1')], [2, 2, 2, 2]);
  assert.deepEqual([...all.viewer.pixels.get('c/1')], [0, 0, 2, 2]);
  assert.deepEqual(scopeOf(all.viewer, 'S', 'range', 1, 2), NAMES.slice(0, 2));
  assert.throws(() => scopeOf(all.viewer, 'S', 'range', 2, 9), RangeError);
});

test('slices of another model are taken over by the names of their organs', async () => {
  const all = await opened();
  await all.session.segment(null);
  await paint(all, 'a', 2);
  const others = [{ id: 1, name: 'Spleen' }, { id: 2, name: 'pancreas' }, { id: 3, name: 'liver' }, { id: 9, name: 'aorta' }];
  all.server.segment = async () => labelOf({ c: [1, 1, 2, 2, 1, 3] }, { segments: others });
  await all.session.segment([NAMES[2]]);
  assert.deepEqual([...all.viewer.pixels.get('a/1')], [2, 2, 2, 2]);
  assert.deepEqual([...all.viewer.pixels.get('c/1')], [2, 3, 3, 1]);
  assert.deepEqual(all.session.current.label.segments, [...SEGMENTS, { id: 3, name: 'pancreas' }]);
});

test('after slices that could not be taken over, strokes are still noticed', async () => {
  const all = await opened();
  await all.session.segment(null);
  const { replace } = all.viewer;
  all.viewer.replace = () => {
    throw new Error('The viewer does not show them.');
  };
  await all.session.segment([NAMES[2]]);
  assert.match(all.session.current.message.text, /does not show them/);
  all.viewer.replace = replace;
  await paint(all, 'a', 2);
  assert.equal(all.kept.size, 1);
});

test('a first segmentation of some slices leaves the others empty', async () => {
  const { session, viewer } = await opened();
  await session.segment([NAMES[1]]);
  assert.deepEqual([...viewer.pixels.get('a/1')], [1, 1, 1, 1]);
  assert.deepEqual([...viewer.pixels.get('c/1')], [0, 0, 0, 0]);
  assert.equal(session.current.dirty, true);
});

test('a change is noticed, kept as a draft, and no change once it is undone', async () => {
  const all = await opened();
  await all.session.segment(null);
  await paint(all, 'b', 1);
  assert.equal(all.session.dirty, true);
  const [draft] = all.kept.values();
  assert.deepEqual(draft.label.slices[0], { uid: 'b', frame: 1, runs: [4, 1] });
  assert.equal(draft.saved, 1234);
  await paint(all, 'b', 0);
  assert.equal(all.session.dirty, false);
  assert.equal(all.kept.size, 0);
});

test('storing sends every slice with its name, who, and what it replaces', async () => {
  const all = await opened();
  await all.session.segment(null);
  await paint(all, 'b', 2);
  await all.session.store();
  const [sent] = all.server.stored;
  assert.equal(sent.client_id, 'Roe^Jane');
  assert.equal(sent.base, null);
  assert.equal(sent.model_version, '0.1.0');
  assert.deepEqual(sent.slices.map(({ uid, runs }) => [uid, runs]), [['b', [4, 2]], ['a', [4, 1]], ['c', [2, 0, 2, 2]]]);
  assert.equal(all.session.current.origin.by, 'Roe^Jane');
  assert.equal(all.session.current.base, 'd1');
  assert.equal(all.session.dirty, false);
  assert.equal(all.kept.size, 0);
  assert.match(all.session.current.message.text, /in the PACS as DICOM SEG/);
  assert.deepEqual(all.renewed, ['S']);
});

test('warnings and confidence are kept apart from what is said of success, until a person stores', async () => {
  const all = await opened();
  const doubts = { warnings: ['spleen is in 5 pieces'], confidence: { liver: 0.97, spleen: 0.5 } };
  all.server.segment = async () => ({ ...AUTOMATIC, ...doubts });
  await all.session.segment(null);
  const { current } = all.session;
  assert.deepEqual([current.message.kind, current.message.text], ['done', 'Segmented. (0 s)']);
  assert.deepEqual([current.origin.warnings, current.origin.confidence], [doubts.warnings, doubts.confidence]);
  assert.deepEqual(SEGMENTS.map((segment) => confidenceOf(current, segment)), [0.97, 0.5]);
  await paint(all, 'b', 1);
  assert.deepEqual(SEGMENTS.map((segment) => confidenceOf(current, segment)), [null, 0.5]);
  await all.session.store();
  assert.equal(current.origin.warnings, undefined);
});

test('doubts about slices that were put into a stored label are told', async () => {
  const all = setUp();
  all.server.state = { label: { ...AUTOMATIC, tag: 'final', by: 'Anna' } };
  await all.session.open('S');
  all.server.segment = async () => labelOf({ c: [4, 2] }, { warnings: ['spleen is in 2 pieces'] });
  await all.session.segment([NAMES[2]]);
  assert.deepEqual(warningsOf(all.session.current), ['spleen is in 2 pieces']);
  await all.session.store();
  assert.deepEqual(warningsOf(all.session.current), []);
});

test('the doubts about an automatic label are told again when it is opened', async () => {
  const all = setUp();
  all.server.state = { label: { ...AUTOMATIC, warnings: ['no organ was found'], confidence: { liver: 0.9 } } };
  await all.session.open('S');
  assert.deepEqual(all.session.current.origin.warnings, ['no organ was found']);
  assert.equal(confidenceOf(all.session.current, SEGMENTS[0]), 0.9);
});

test('a segmentation that takes too long is stopped, here and on the server', async () => {
  const all = await opened();
  all.server.segment = (image, model, slices, { run, signal }) => {
    all.server.run = run;
    return new Promise((_, failed) => signal.addEventListener('abort', () => failed(new Error('aborted'))));
  };
  const done = all.session.segment(null);
  assert.equal(all.session.current.busy, 'Segmenting…');
  all.session.current.stop();
  await done;
  const { message, busy, label, stop } = all.session.current;
  assert.deepEqual([message.text, busy, label, stop], ['Stopped. Nothing was changed.', '', null, null]);
  assert.equal(all.server.stopped, all.server.run);
});

test('a stored label is approved, until it is stored again', async () => {
  const all = await opened();
  await all.session.segment(null);
  await all.session.store();
  await all.session.review();
  assert.deepEqual(all.server.approved, { image: 'S', who: 'Roe^Jane' });
  assert.equal(all.session.current.reviewed, 'Roe^Jane');
  await all.session.store();
  assert.equal(all.session.current.reviewed, null);
});

test('what is left of an organ that was deleted is not sent', async () => {
  const all = await opened();
  await all.session.segment(null);
  all.viewer.shown = SEGMENTS.slice(0, 1);
  await all.session.store();
  const [sent] = all.server.stored;
  assert.deepEqual(sent.segments, SEGMENTS.slice(0, 1));
  assert.deepEqual(sent.slices.map(({ runs }) => runs), [[4, 0], [4, 1], [2, 0, 2, 0]]);
});

const failures = [
  [new ServerError('The server does not answer.', 0), ['again', 'save']],
  [new ServerError('a bearer token is needed', 401), ['login', 'again', 'save']],
  [new ServerError('Anna has stored a label', 409), ['replace', 'load', 'save']],
];
for (const [refusal, actions] of failures) {
  test(`storing fails with ${refusal.status}: it is said, and nothing is lost`, async () => {
    const all = await opened();
    await all.session.segment(null);
    await paint(all, 'b', 2);
    all.server.refusal = refusal;
    await all.session.store();
    const { message, dirty, busy } = all.session.current;
    assert.match(message.text, new RegExp(`^Not stored: ${refusal.message.replace(/\.$/, '')}\\. Your changes are still here`));
    assert.deepEqual(message.actions, actions);
    assert.equal(dirty, true);
    assert.equal(busy, '');
    assert.equal(all.kept.size, 1);
    all.server.refusal = null;
    await all.session.store({ replace: refusal.status === 409 });
    assert.equal('base' in all.server.stored[0], refusal.status !== 409);
    assert.equal(all.session.dirty, false);
  });
}

test('a stored label is shown when the image is opened, and a draft is offered', async () => {
  const all = setUp();
  all.server.state = { label: labelOf({ a: [4, 2], b: [4, 0], c: [4, 0] }, { tag: 'final', by: 'Anna', digest: 'd7' }) };
  const draft = { visit: 'earlier', saved: 5, base: 'd6', origin: { tag: 'original' }, label: AUTOMATIC };
  all.kept.set(draft.visit, draft);
  await all.session.open('S');
  assert.equal(all.session.current.base, 'd7');
  assert.deepEqual([...all.viewer.pixels.get('a/1')], [2, 2, 2, 2]);
  assert.equal(all.session.dirty, false);
  await all.session.restore(all.session.current.draft);
  assert.deepEqual([...all.viewer.pixels.get('a/1')], [1, 1, 1, 1]);
  assert.equal(all.session.current.base, 'd6');
  assert.equal(all.session.dirty, true);
  await all.session.reload();
  assert.deepEqual([...all.viewer.pixels.get('a/1')], [2, 2, 2, 2]);
  assert.equal(all.kept.size, 0);
});

test('changes of another series are refused', async () => {
  const { session } = await opened();
  await session.restore({ saved: 1, base: null, origin: null, label: { ...AUTOMATIC, image: 'T' } });
  assert.match(session.current.message.text, /another series/);
});

test('changes of an earlier time stay until somebody decides, whatever is painted and stored', async () => {
  const all = setUp();
  all.server.state = { label: AUTOMATIC };
  const draft = { visit: 'earlier', saved: 5, base: null, origin: { tag: 'original' }, label: AUTOMATIC };
  all.kept.set(draft.visit, draft);
  await all.session.open('S');
  await paint(all, 'b', 2);
  assert.equal(all.kept.size, 2);
  await all.session.store();
  assert.deepEqual([...all.kept.keys()], ['earlier']);
  assert.equal(all.session.current.draft, draft);
  await all.session.discard();
  assert.equal(all.kept.size, 0);
});

test('the last stroke is kept when the page is left at once', async () => {
  const all = await opened();
  await all.session.segment(null);
  all.viewer.pixels.get('b/1').fill(2);
  all.session.modified('S');
  all.session.settling.flush();
  assert.equal(all.session.dirty, true);
  assert.equal(all.kept.size, 1);
});

test('leaving keeps what is not stored', async () => {
  const all = await opened();
  await all.session.segment(null);
  await paint(all, 'b', 2);
  all.kept.clear();
  all.session.leave();
  assert.equal(all.kept.size, 1);
  assert.equal(all.session.current, null);
});

test('what became of a stored label is said', () => {
  const told = ['stored', 'waits', 'too many segments'].map((pacs) => storedMessage({ pacs }));
  assert.deepEqual(told.map(({ kind }) => kind), ['done', 'warn', 'warn']);
  assert.match(told[0].text, /in the PACS/);
  assert.match(told[1].text, /has not taken it yet/);
  assert.match(told[2].text, /cannot have it: too many segments/);
});
