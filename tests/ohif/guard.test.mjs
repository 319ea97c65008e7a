import assert from 'node:assert/strict';
import test from 'node:test';
import { submissionOf } from '../../monailabel_app/ohif/web/monailabel/cases.js';
import { Guard, withStatistics } from '../../monailabel_app/ohif/web/monailabel/guard.js';
import { Ohif, labelOf } from './ohif.mjs';

const SEEING = [{ id: 1, name: 'liver', color: [200, 0, 0] }, { id: 2, name: 'bladder', color: [0, 0, 200] }];
const TURNED = [{ id: 1, name: 'bladder', color: [0, 0, 200] }, { id: 2, name: 'liver', color: [200, 0, 0] }];
const NAMES = { seeing: { 1: 'liver', 2: 'bladder' }, turned: { 1: 'bladder', 2: 'liver' } };

/** A viewer that watches an OHIF in which a model has segmented the series. */
async function shown() {
  const ohif = new Ohif();
  const viewer = ohif.viewer();
  viewer.watch({ opened() {}, modified() {}, removed() {} });
  await viewer.show('S', labelOf(SEEING, [1, 1, 1, 2]));
  return { ohif, viewer, service: ohif.service };
}

const namesOf = (segments) => Object.fromEntries(segments.map(({ id, name }) => [id, name]));

test('statistics of a label that was replaced leave the names of the new one', async () => {
  const { ohif, viewer } = await shown();
  const late = ohif.statistics('monailabel-S');
  await viewer.show('S', labelOf(TURNED, [2, 2, 2, 1]));
  late();
  assert.deepEqual(ohif.names('monailabel-S'), NAMES.turned);
  assert.deepEqual(namesOf(viewer.segments('S')), NAMES.turned);
  assert.deepEqual(ohif.volumes('monailabel-S'), {}); // they were those of other organs
  const opened = { label: { ...labelOf(TURNED, [2, 2, 2, 1]), segments: viewer.segments('S') }, origin: null, base: null };
  const { segments, slices } = submissionOf(opened, 'Roe^Jane');
  assert.deepEqual([namesOf(segments), slices[0].runs], [NAMES.turned, [3, 2, 1, 1]]);
});

test('statistics of the label that is shown are taken', async () => {
  const { ohif, viewer } = await shown();
  ohif.statistics('monailabel-S')();
  assert.deepEqual(ohif.volumes('monailabel-S'), { 1: 3, 2: 1 });
  assert.deepEqual(namesOf(viewer.segments('S')), NAMES.seeing);
});

test('a list that is put back past the guard is listed again, and is never what is stored', async () => {
  const { ohif, viewer } = await shown();
  const before = ohif.names('monailabel-S');
  const { segments } = ohif.state.get('monailabel-S');
  await viewer.show('S', labelOf(TURNED, [2, 2, 2, 1]));
  ohif.update('monailabel-S', { segments });
  assert.deepEqual(before, NAMES.seeing);
  assert.deepEqual(ohif.names('monailabel-S'), NAMES.turned);
  assert.deepEqual(namesOf(viewer.segments('S')), NAMES.turned);
});

for (const [who, remove] of [
  ['our panel', ({ viewer }) => viewer.removeSegment('S', 2)],
  ["OHIF's own list", ({ service }) => service.removeSegment('monailabel-S', 2)],
]) {
  test(`an organ that was deleted in ${who} does not come back with late statistics`, async () => {
    const all = await shown();
    const late = all.ohif.statistics('monailabel-S');
    remove(all);
    late();
    assert.deepEqual(all.ohif.names('monailabel-S'), { 1: 'liver' });
    assert.deepEqual(namesOf(all.viewer.segments('S')), { 1: 'liver' });
    assert.deepEqual([...all.viewer.pixels('S').values()].map((values) => [...values]), [[1, 1, 1, 0]]);
  });
}

test('what a person adds, renames and chooses outlives late statistics', async () => {
  const { ohif, viewer, service } = await shown();
  const late = ohif.statistics('monailabel-S');
  viewer.addSegment('S', 'lesion', [1, 2, 3]);
  service.addSegment('monailabel-S');
  service.setSegmentLabel('monailabel-S', 1, 'left lobe');
  viewer.activate('S', 3);
  late();
  const names = { 1: 'left lobe', 2: 'bladder', 3: 'lesion', 4: 'Segment 4' };
  assert.deepEqual(ohif.names('monailabel-S'), names);
  assert.deepEqual(namesOf(viewer.segments('S')), names);
  assert.deepEqual(viewer.segments('S').map(({ color }) => color).slice(0, 3), [[200, 0, 0], [0, 0, 200], [1, 2, 3]]);
  assert.equal(viewer.activeSegment('S'), 3);
});

test('undo brings back the names with the voxels', async () => {
  const { ohif, viewer } = await shown();
  await viewer.show('S', labelOf(TURNED, [2, 2, 2, 1]));
  const late = ohif.statistics('monailabel-S');
  ohif.memos[0].restoreMemo(true);
  late();
  assert.deepEqual(namesOf(viewer.segments('S')), NAMES.seeing);
  assert.deepEqual(ohif.names('monailabel-S'), NAMES.seeing);
  assert.deepEqual([...viewer.pixels('S').values()].map((values) => [...values]), [[1, 1, 1, 2]]);
});

test('segmentations of others, and of other modes, are left to OHIF', async () => {
  const { ohif, viewer, service } = await shown();
  ohif.state.set('other', { segmentationId: 'other', segments: { 1: { segmentIndex: 1, label: 'a' } } });
  const { segments } = ohif.state.get('other');
  service.setSegmentLabel('other', 1, 'b');
  service.addOrUpdateSegmentation({ segmentationId: 'other', segments });
  assert.deepEqual(ohif.names('other'), { 1: 'a' });
  assert.deepEqual(namesOf(viewer.segments('other')), {});
  viewer.unwatch();
  service.removeSegment('monailabel-S', 2);
  assert.deepEqual(ohif.names('monailabel-S'), { 1: 'liver' });
  assert.deepEqual(ohif.removed, ['monailabel-S']);
  assert.equal(viewer.guard.theirs.size, 0);
});

test('a guard that ends gives back the methods that it found', () => {
  const service = Object.fromEntries(['addSegment', 'setSegmentLabel', 'removeSegment', 'addOrUpdateSegmentation'].map((name) => [name, () => name]));
  const found = { ...service };
  const guard = new Guard(service, { take: (_, change) => change(), remove() {} });
  guard.begin();
  assert.notEqual(service.addSegment, found.addSegment);
  guard.end();
  assert.deepEqual(service, found);
});

test('of a late list only statistics are taken', () => {
  const now = { 1: { label: 'liver', active: true }, 2: { label: 'lesion', active: false } };
  const late = { 1: { label: 'liver', active: false, cachedStats: 5 }, 2: { label: 'spleen', cachedStats: 7 }, 3: { label: 'gone' } };
  assert.deepEqual(withStatistics(now, late), { 1: { label: 'liver', active: true, cachedStats: 5 }, 2: now[2] });
});
