import assert from 'node:assert/strict';
import test from 'node:test';
import { Server, ServerError } from '../../monailabel_app/ohif/web/monailabel/server.js';

/** A server whose answer is given, and what it was asked. */
function answering(status, text) {
  const asked = [];
  const send = async (path, request) => {
    asked.push({ path, ...request });
    return { ok: status < 400, status, text: async () => text };
  };
  return { server: new Server(send), asked };
}

test('requests stay on the origin, name the image and carry JSON', async () => {
  const { server, asked } = answering(200, '{"tag": "final"}');
  assert.deepEqual(await server.store('1.2/3', { client_id: 'Roe' }), { tag: 'final' });
  assert.equal(asked[0].path, '/viewer/images/1.2%2F3/label');
  assert.equal(asked[0].method, 'PUT');
  assert.equal(asked[0].credentials, 'same-origin');
  assert.equal(asked[0].body, '{"client_id":"Roe"}');
  await server.segment('1.2', 'my model', [{ uid: '9', frame: 1 }], { run: 'r 1', signal: null });
  assert.equal(asked[1].path, '/viewer/images/1.2/segment?model=my+model');
  assert.deepEqual(JSON.parse(asked[1].body), { slices: [{ uid: '9', frame: 1 }], run: 'r 1' });
  assert.equal(await server.nextStudy('uncertainty', 'Roe'), null);
  assert.equal(asked[2].path, '/activelearning/uncertainty');
  await server.stopSegmenting('r 1');
  await server.promote('my model', '1.1.1', 'Roe');
  assert.deepEqual(asked.slice(3).map(({ method, path }) => `${method} ${path}`), [
    'DELETE /viewer/runs/r%201',
    'POST /versions/my%20model/promote?version=1.1.1',
  ]);
});

const refusals = [
  [401, '{"detail": "a bearer token is needed"}', 'You are not logged in any more.'],
  [409, '{"detail": "Anna has stored a label"}', 'Anna has stored a label'],
  [422, '{"detail": [{"loc": ["body"]}]}', '[{"loc":["body"]}]'],
  [502, '<html>Bad gateway</html>', 'The server answers with status 502.'],
];
for (const [status, text, message] of refusals) {
  test(`status ${status} is told in the words of the server`, async () => {
    const { server } = answering(status, text);
    await assert.rejects(server.overview(), { name: 'ServerError', status, message });
  });
}

test('no answer, and half of one, are errors too', async () => {
  const silent = new Server(async () => {
    throw new TypeError('Failed to fetch');
  });
  await assert.rejects(silent.overview(), (error) => error instanceof ServerError && error.status === 0);
  await assert.rejects(answering(200, '{"version"').server.overview(), { message: 'The answer of the server is cut off.' });
});
