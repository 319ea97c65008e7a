import assert from 'node:assert/strict';
import test from 'node:test';
import { History, withoutSegment } from '../../monailabel_app/ohif/web/monailabel/history.js';
import { sameSegments, segmentsOf } from '../../monailabel_app/ohif/web/monailabel/segments.js';
import { ThresholdRange, greyValues } from '../../monailabel_app/ohif/web/monailabel/threshold.js';

/** What OHIF's page exposes, as far as it is used. */
function globalsOf(images = {}) {
  const memos = [];
  const cornerstone = {
    Enums: { Events: { WEB_WORKER_PROGRESS: 'progress', IMAGE_LOADED: 'loaded' } },
    cache: { getImage: (id) => images[id] },
    eventTarget: new EventTarget(),
    utilities: { HistoryMemo: { DefaultHistoryMemo: { push: (memo) => memos.push(memo) } }, uuidv4: () => 'id' },
  };
  return { memos, cornerstone, cornerstoneTools: { Enums: { WorkerTypes: { INTERPOLATE_LABELMAP: 'interpolating' } } } };
}

const momentOf = (rows) => ({ segments: [], pixels: new Map(Object.entries(rows).map(([key, row]) => [key, Uint8Array.from(row)])) });

test('a step holds the slices that it has changed, before and after', () => {
  const globals = globalsOf();
  const restored = [];
  new History(globals).record(momentOf({ a: [0], b: [0] }), momentOf({ b: [1] }), (moment) => restored.push(moment.pixels));
  globals.memos[0].restoreMemo(true);
  globals.memos[0].restoreMemo(false);
  assert.deepEqual(restored, [momentOf({ b: [0] }).pixels, momentOf({ b: [1] }).pixels]);
});

test('an interpolation becomes a step when its worker has ended', () => {
  const globals = globalsOf();
  const tell = (type, progress) =>
    globals.cornerstone.eventTarget.dispatchEvent(Object.assign(new Event('progress'), { detail: { type, progress } }));
  let now = momentOf({ a: [0] });
  const restored = [];
  new History(globals).interpolate(() => tell('interpolating', 0), () => now, (moment) => restored.push(moment.pixels.get('a')[0]));
  tell('another', 100);
  assert.equal(globals.memos.length, 0);
  now = momentOf({ a: [3] });
  tell('interpolating', 100);
  tell('interpolating', 100);
  assert.equal(globals.memos.length, 1);
  globals.memos[0].restoreMemo(true);
  assert.deepEqual(restored, [0]);
});

test('the threshold brush has the range of the series, until a person sets another', () => {
  const images = { 1: { minPixelValue: 0, maxPixelValue: 900 }, 2: { minPixelValue: 40, maxPixelValue: 2000 } };
  const globals = globalsOf({ 1: images[1] });
  const option = { id: 'threshold-range', min: -1000, max: 1000, value: [50, 600] };
  const ran = [];
  const services = {
    toolbarService: { getButtonProps: () => ({ options: [option] }), refreshToolbarState: () => {} },
    viewportGridService: { getActiveViewportId: () => 'v' },
  };
  const commands = { runCommand: (name, { value }) => ran.push([name, value]) };
  const shown = { imageIds: ['1', '2', '3'], SeriesInstanceUID: 'S' };
  const range = new ThresholdRange(services, commands, () => shown, globals);
  range.fit();
  range.fit();
  assert.deepEqual(ran, [['setThresholdRange', [450, 900]]]);
  globals.cornerstone.cache.getImage = (id) => images[id];
  range.fit();
  assert.deepEqual(option, { id: 'threshold-range', min: 0, max: 2000, step: 1, value: [1000, 2000] });
  option.value = [100, 300];
  images[1].minPixelValue = -5;
  range.fit();
  assert.deepEqual([option.min, option.value], [-5, [100, 300]]);
});

test('without an image, or in a uniform one, there is no range', () => {
  assert.equal(greyValues(['1'], { getImage: () => undefined }), null);
  assert.equal(greyValues(['1'], { getImage: () => ({ minPixelValue: 3, maxPixelValue: 3 }) }), null);
});

test('segments are the same by number and name', () => {
  const liver = { id: 1, name: 'liver' };
  assert.ok(sameSegments([liver, { id: 2, name: 'spleen' }], [{ id: 2, name: 'spleen', color: [1, 2, 3] }, liver]));
  assert.ok(!sameSegments([liver], [{ id: 1, name: 'spleen' }]));
});

test('a segment goes with all of its voxels', () => {
  const before = { segments: [{ id: 1, name: 'liver' }, { id: 2, name: 'spleen' }], pixels: momentOf({ a: [1, 2], b: [2, 0] }).pixels };
  const after = withoutSegment(before, 2);
  assert.deepEqual(after, { segments: [{ id: 1, name: 'liver' }], pixels: momentOf({ a: [1, 0], b: [0, 0] }).pixels });
  assert.deepEqual([...before.pixels.get('a')], [1, 2]);
});

test('the organ that is painted stays the one, as long as it is there', () => {
  const activeOf = (chosen) => Object.values(segmentsOf([{ id: 3, name: 'liver' }, { id: 5, name: 'lesion' }], chosen)).map(({ active }) => active);
  assert.deepEqual([activeOf(5), activeOf(2), activeOf()], [[false, true], [true, false], [true, false]]);
  assert.deepEqual(segmentsOf([]), {});
});
