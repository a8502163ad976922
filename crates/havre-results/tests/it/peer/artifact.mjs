// What GitHub's own client of artifacts does here.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { DefaultArtifactClient } from '@actions/artifact';

const folder = process.argv.at(-1);
const client = new DefaultArtifactClient();
const bytes = randomBytes(20 << 20);
writeFileSync(`${folder}/large`, bytes);
writeFileSync(`${folder}/small`, 'small');

const made = await client.uploadArtifact('dist', [`${folder}/large`, `${folder}/small`], folder, { compressionLevel: 0 });
assert.ok(made.id > 0 && made.size > 20 << 20);
const found = await client.getArtifact('dist');
assert.equal(found.artifact.id, made.id);
assert.equal(found.artifact.digest, `sha256:${made.digest}`);
const listed = await client.listArtifacts();
assert.deepEqual(listed.artifacts.map((a) => [a.name, a.size]), [['dist', made.size]]);

const path = `${folder}/back`;
mkdirSync(path);
const back = await client.downloadArtifact(made.id, { path, expectedHash: found.artifact.digest });
assert.equal(back.digestMismatch, false);
const hash = (data) => createHash('sha256').update(data).digest('hex');
assert.equal(hash(readFileSync(`${path}/large`)), hash(bytes));
assert.equal(readFileSync(`${path}/small`, 'utf8'), 'small');

await assert.rejects(client.uploadArtifact('dist', [`${folder}/small`], folder), /409/);
await client.deleteArtifact('dist');
await assert.rejects(client.getArtifact('dist'), /not found/);
const again = await client.uploadArtifact('dist', [`${folder}/small`], folder);
assert.ok(again.id > made.id);
await assert.rejects(client.getArtifact('none'), /not found/);
console.log('done');
