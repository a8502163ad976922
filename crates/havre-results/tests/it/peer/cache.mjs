// What GitHub's own client of caches does here.
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import * as cache from '@actions/cache';

const folder = process.argv.at(-1);
process.chdir(folder);
const save = async (key, text) => {
  mkdirSync('kept', { recursive: true });
  writeFileSync('kept/file', text);
  return cache.saveCache(['kept'], key);
};
const restore = async (key, others) => {
  rmSync('kept', { recursive: true, force: true });
  const found = await cache.restoreCache(['kept'], key, others);
  return [found, found && readFileSync('kept/file', 'utf8')];
};
assert.ok(cache.isFeatureAvailable());
assert.ok((await save('npm-1', 'one')) > 0);
assert.ok((await save('npm-2', 'two')) > 0);
assert.deepEqual(await restore('npm-1'), ['npm-1', 'one']);
assert.deepEqual(await restore('none', ['npm-']), ['npm-2', 'two']);
assert.deepEqual(await restore('none'), [undefined, undefined]);
assert.equal(await save('npm-1', 'again'), -1);
assert.deepEqual(await restore('npm-1'), ['npm-1', 'one']);

// More than is put at once: blocks of 64 MiB.
const large = randomBytes(140 << 20).toString('latin1');
assert.ok((await save('large', large)) > 0);
const [key, back] = await restore('large');
assert.ok(key === 'large' && back === large);
console.log('done');
