// A folder is saved and restored by GitHub's own client; times in milliseconds are the last line.
import { rmSync } from 'node:fs';
import * as cache from '@actions/cache';

const [folder, key] = process.argv.slice(-2);
process.chdir(folder);
const timed = async (work) => {
  const begun = process.hrtime.bigint();
  const done = await work();
  return [done, Number(process.hrtime.bigint() - begun) / 1e6];
};
const [id, save] = await timed(() => cache.saveCache(['kept'], key));
if (!(id > 0)) throw new Error('it was not saved');
rmSync('kept', { recursive: true });
const [found, restore] = await timed(() => cache.restoreCache(['kept'], key));
if (found !== key) throw new Error('it was not found');
console.log(JSON.stringify({ save, restore }));
