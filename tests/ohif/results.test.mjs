import assert from 'node:assert/strict';
import test from 'node:test';
import { ResultList } from '../../monailabel_app/ohif/web/monailabel/results.js';

/** OHIF with one series of images and its segmentation, and a PACS that has a later one. */
function setUp(seg = {}, fresh = {}) {
  const images = { displaySetInstanceUID: 'mr', SeriesInstanceUID: 'S', StudyInstanceUID: 'T', Modality: 'MR' };
  const old = { displaySetInstanceUID: 'old', SeriesInstanceUID: 'R', StudyInstanceUID: 'T', Modality: 'SEG', ...seg };
  const sets = [images, old];
  const remembered = new Set(['pacs:T']);
  const asked = [];
  const services = {
    displaySetService: {
      getActiveDisplaySets: () => sets,
      deleteDisplaySet: (uid) => sets.splice(sets.findIndex((set) => set.displaySetInstanceUID === uid), 1),
    },
    viewportGridService: { getState: () => ({ viewports: new Map([['v', { displaySetInstanceUIDs: ['mr'] }]]) }) },
  };
  const source = {
    getConfig: () => ({ name: 'pacs' }),
    deleteStudyMetadataPromise: (key) => remembered.delete(key),
    query: { series: { search: async () => [{ modality: 'MR', seriesInstanceUid: 'S' }, { modality: 'SEG', seriesInstanceUid: 'R' }] } },
    retrieve: {
      series: {
        metadata: async ({ StudyInstanceUID, filters }) => {
          assert.equal(remembered.size, 0);
          remembered.add(`pacs:${StudyInstanceUID}`);
          asked.push(filters.seriesInstanceUID);
          sets.push({ ...old, displaySetInstanceUID: 'new', loading: false, isLoaded: false, isHydrated: false, ...fresh });
        },
      },
    },
  };
  return { sets, remembered, asked, source, list: new ResultList(services, () => source) };
}

const uids = (sets) => sets.map((set) => set.displaySetInstanceUID);

test('a segmentation takes the place of the one that it supersedes', async () => {
  const { sets, remembered, asked, list } = setUp();
  await list.renew('S');
  assert.deepEqual(asked, [['R']]);
  assert.deepEqual(uids(sets), ['mr', 'new']);
  assert.equal(remembered.size, 0); // the next visit asks for the whole study
});

test('also when the new one has a series of its own, as that of another model has', async () => {
  const names = (uid) => ({ instance: { ReferencedImageSequence: { ReferencedSOPInstanceUID: uid } } });
  for (const [uid, left] of [['old.1', ['mr', 'new']], ['other', ['mr', 'old', 'new']]]) {
    const { sets, list } = setUp({ SOPInstanceUID: 'old.1' }, { SOPInstanceUID: 'new.1', SeriesInstanceUID: 'Q', ...names(uid) });
    await list.renew('S');
    assert.deepEqual(uids(sets), left);
  }
});

test('one that a person has opened stays', async () => {
  const { sets, list } = setUp({ isHydrated: true });
  await list.renew('S');
  assert.deepEqual(uids(sets), ['mr', 'old', 'new']);
});

test('without an answer of the PACS the list stays', async () => {
  const { sets, source, list } = setUp();
  source.query.series.search = async () => {
    throw new Error('503');
  };
  await list.renew('S');
  assert.deepEqual(uids(sets), ['mr', 'old']);
});
