'use strict';
// What a script of actions/github-script finds around it. The API of GitHub is not among it.
const fs = require('fs');
const os = require('os');
const { randomUUID } = require('crypto');
const { createRequire } = require('module');

const env = process.env;
const say = (line) => process.stdout.write(line + os.EOL);
const text = (value) => (value == null ? '' : typeof value === 'string' ? value : value instanceof Error ? value.toString() : JSON.stringify(value));
const data = (value) => text(value).replace(/%/g, '%25').replace(/\r/g, '%0D').replace(/\n/g, '%0A');
const property = (value) => data(value).replace(/:/g, '%3A').replace(/,/g, '%2C');
const places = { title: 'title', file: 'file', startLine: 'line', endLine: 'endLine', startColumn: 'col', endColumn: 'endColumn' };
const command = (name, message, about = {}) => {
  const words = Object.entries(places).filter(([key]) => about[key] != null).map(([key, word]) => `${word}=${property(about[key])}`);
  say(`::${name}${words.length ? ' ' + words.join(',') : ''}::${data(message)}`);
};
const tell = (variable, name, value) => {
  const end = `end-${randomUUID()}`;
  fs.appendFileSync(env[variable], `${name}<<${end}\n${text(value)}\n${end}\n`);
};
const input = (name) => (env[`INPUT_${name.replace(/ /g, '_').toUpperCase()}`] || '');

const summary = {
  written: '',
  addRaw(more, line = false) { this.written += more + (line ? os.EOL : ''); return this; },
  addEOL() { return this.addRaw(os.EOL); },
  addHeading(title, level = 1) { return this.addRaw(`<h${level}>${title}</h${level}>`, true); },
  addCodeBlock(code, language = '') { return this.addRaw(`<pre lang="${language}"><code>${code}</code></pre>`, true); },
  addLink(name, href) { return this.addRaw(`<a href="${href}">${name}</a>`, true); },
  addList(items, ordered = false) {
    const tag = ordered ? 'ol' : 'ul';
    return this.addRaw(`<${tag}>${items.map((item) => `<li>${item}</li>`).join('')}</${tag}>`, true);
  },
  addTable(rows) {
    const cell = (c) => (typeof c === 'string' ? `<td>${c}</td>` : `<${c.header ? 'th' : 'td'}>${c.data}</${c.header ? 'th' : 'td'}>`);
    return this.addRaw(`<table>${rows.map((row) => `<tr>${row.map(cell).join('')}</tr>`).join('')}</table>`, true);
  },
  stringify() { return this.written; },
  emptyBuffer() { this.written = ''; return this; },
  async write({ overwrite = false } = {}) {
    (overwrite ? fs.writeFileSync : fs.appendFileSync)(env.GITHUB_STEP_SUMMARY, this.written);
    return this.emptyBuffer();
  },
};

const core = {
  summary,
  getInput(name, { required = false, trimWhitespace = true } = {}) {
    if (required && !input(name)) throw new Error(`Input required and not supplied: ${name}`);
    return trimWhitespace ? input(name).trim() : input(name);
  },
  getBooleanInput(name) {
    if (/^(true|True|TRUE)$/.test(input(name).trim())) return true;
    if (/^(false|False|FALSE)$/.test(input(name).trim())) return false;
    throw new TypeError(`${name} is neither true nor false`);
  },
  getMultilineInput: (name) => input(name).split('\n').map((line) => line.trim()).filter(Boolean),
  setOutput: (name, value) => tell('GITHUB_OUTPUT', name, value),
  saveState: (name, value) => tell('GITHUB_STATE', name, value),
  getState: (name) => env[`STATE_${name}`] || '',
  exportVariable(name, value) { env[name] = text(value); tell('GITHUB_ENV', name, value); },
  addPath(folder) { env.PATH = `${folder}:${env.PATH}`; fs.appendFileSync(env.GITHUB_PATH, `${folder}\n`); },
  setSecret: (value) => command('add-mask', value),
  info: say,
  debug: (message) => command('debug', message),
  notice: (message, about) => command('notice', message, about),
  warning: (message, about) => command('warning', message, about),
  error: (message, about) => command('error', message, about),
  setFailed(message) { process.exitCode = 1; command('error', message); },
  isDebug: () => env.RUNNER_DEBUG === '1',
  startGroup: (title) => command('group', title),
  endGroup: () => command('endgroup', ''),
  async group(title, run) { core.startGroup(title); try { return await run(); } finally { core.endGroup(); } },
};

const payload = env.GITHUB_EVENT_PATH ? JSON.parse(fs.readFileSync(env.GITHUB_EVENT_PATH, 'utf8')) : {};
const [owner, repo] = (env.GITHUB_REPOSITORY || '/').split('/');
const number = (payload.issue || payload.pull_request || payload).number;
const context = {
  payload,
  eventName: env.GITHUB_EVENT_NAME, sha: env.GITHUB_SHA, ref: env.GITHUB_REF, workflow: env.GITHUB_WORKFLOW,
  action: env.GITHUB_ACTION, actor: env.GITHUB_ACTOR, job: env.GITHUB_JOB,
  runAttempt: Number(env.GITHUB_RUN_ATTEMPT), runNumber: Number(env.GITHUB_RUN_NUMBER), runId: Number(env.GITHUB_RUN_ID),
  apiUrl: env.GITHUB_API_URL, serverUrl: env.GITHUB_SERVER_URL, graphqlUrl: env.GITHUB_GRAPHQL_URL,
  repo: { owner, repo }, issue: { owner, repo, number },
};

const missing = (name, advice) => new Proxy(() => {}, {
  get(_, key) {
    // Whoever only looks at it, as await does, is not refused.
    if (typeof key === 'symbol' || key === 'then') return undefined;
    throw new Error(`${name}.${key} is not there in a job of Havre: ${advice}`);
  },
  apply() { throw new Error(`${name} is not there in a job of Havre: ${advice}`); },
});
const api = 'it does not stand for GitHub; call the API by fetch, with a token of yours from env';
const around = {
  core, context,
  github: missing('github', api), octokit: missing('octokit', api), getOctokit: missing('getOctokit', api),
  exec: missing('exec', "use require('child_process')"),
  glob: missing('glob', "use require('fs')"),
  io: missing('io', "use require('fs')"),
  require: createRequire(`${process.cwd()}/`),
  __original_require__: require,
};

(async () => {
  const AsyncFunction = Object.getPrototypeOf(async () => {}).constructor;
  const script = new AsyncFunction(...Object.keys(around), input('script'));
  const result = await script(...Object.values(around));
  const encoded = input('result-encoding') === 'string' ? String(result) : JSON.stringify(result);
  core.setOutput('result', encoded);
})().catch((error) => {
  console.error(error);
  core.setFailed(`Unhandled error: ${error}`);
});
