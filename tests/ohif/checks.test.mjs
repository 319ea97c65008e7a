import assert from 'node:assert/strict';
import test from 'node:test';
import { checksOf } from '../../monailabel_app/ohif/web/monailabel/checks.js';
import { shortened } from '../../monailabel_app/ohif/web/monailabel/organs.js';

const SEGMENTS = ['liver', 'right kidney', 'left kidney', 'spleen'].map((name, i) => ({ id: i + 1, name }));

test('a remark stands by the organs that it names', () => {
  const cut = 'in the first or last slice, so perhaps not imaged as a whole: right kidney, spleen';
  const pieces = 'spleen is in 5 pieces, the largest 63% of it';
  const voxels = 'voxels of 2.08 mm from left to right: the model was trained on 1.25 mm';
  const { general, organs } = checksOf([voxels, cut, pieces], SEGMENTS);
  assert.deepEqual(general, [voxels]);
  assert.deepEqual([...organs], [[2, [cut]], [4, [cut, pieces]]]);
});

test('names are whole words, whatever they are written with', () => {
  assert.deepEqual([...checksOf(['deliver it'], SEGMENTS).organs], []);
  assert.deepEqual([...checksOf(['right_kidney lies left of Left-Kidney: exchanged?'], SEGMENTS).organs.keys()], [2, 3]);
});

test('beside the organ a remark is short', () => {
  const short = {
    'low confidence, look closely: liver 0.71, spleen 0.64 (doubtful below 0.9)': 'low confidence',
    'in the first or last slice, so perhaps not imaged as a whole: liver': 'in the first or last slice, perhaps a part only',
    'spleen is in 5 pieces, the largest 63% of it': 'in 5 pieces',
    'clean-up took 217.8 mL off the liver: far pieces, or ends in air': 'clean-up took off 217.8 mL',
    'liver of 7000 mL: more than 6000 mL is not this organ': 'liver of 7000 mL: more than 6000 mL is not this organ',
  };
  Object.entries(short).forEach(([warning, text]) => assert.equal(shortened(warning), text));
});
