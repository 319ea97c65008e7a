import assert from 'node:assert/strict';
import test from 'node:test';
import { gridOf } from '../../monailabel_app/ohif/web/monailabel/grid.js';

const PLANE = { rows: 3, columns: 4, rowPixelSpacing: 2, columnPixelSpacing: 5, rowCosines: [0, 1, 0], columnCosines: [0, 0, -1] };

test('a voxel reaches from slice to slice along the normal, in any order', () => {
  const planes = [20, 0, 10].map((x) => ({ ...PLANE, imagePositionPatient: [x, 99 - x, 7] }));
  assert.deepEqual(gridOf(planes), { rows: 3, columns: 4, voxel_ml: 0.1 });
});

test('a single slice is as thick as it says', () => {
  assert.equal(gridOf([{ ...PLANE, imagePositionPatient: [0, 0, 0], sliceThickness: 4 }]).voxel_ml, 0.04);
});
