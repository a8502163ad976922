// A folder is saved and restored by GitHub's own client, and copied. Before it stand its numbers.
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import * as cache from '@actions/cache';

// Half of each file compresses, as what jobs keep does that is compressed already in part.
let state = 0x9e3779b9;
mkdirSync('kept');
for (let n = 0; n < files; n++) {
  const words = new Uint32Array(bytes / 4);
  for (let at = 0; at < words.length; at++) {
    if (at % 128 < 64) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
    }
    words[at] = state;
  }
  writeFileSync(`kept/${n}`, words);
}

const timed = async (work) => {
  const begun = process.hrtime.bigint();
  const done = await work();
  return [done, Number(process.hrtime.bigint() - begun) / 1e6];
};
for (let run = 0; run < runs; run++) {
  const copies = ['copy', 'copy-back'];
  const [, copy] = await timed(() => copies.forEach((to) => execFileSync('cp', ['-r', 'kept', to])));
  copies.forEach((to) => rmSync(to, { recursive: true }));
  const [id, save] = await timed(() => cache.saveCache(['kept'], `run-${run}`));
  if (!(id > 0)) throw new Error('it was not saved');
  rmSync('kept', { recursive: true });
  const [found, restore] = await timed(() => cache.restoreCache(['kept'], `run-${run}`));
  if (found !== `run-${run}`) throw new Error('it was not found');
  const sizes = readdirSync('kept').map((name) => statSync(`kept/${name}`).size);
  if (sizes.reduce((all, size) => all + size, 0) !== files * bytes) throw new Error('not all came back');
  console.log(mark + JSON.stringify({ save, restore, copy: copy / copies.length }));
}
