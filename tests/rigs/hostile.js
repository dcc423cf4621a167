// A page that tries to use its viewer: each attempt says in `wins` what it got, '' for nothing.
// `names` is put in front by the test: {gateway, api, victim, own, secret}.

const wins = {};
const victimPage = `${names.gateway}/clusters/${names.victim}/status`;
const victimApi = `${names.api}${names.victim}`;
const wait = ms => new Promise(done => setTimeout(done, ms));

async function attempt(what, act) {
  try {
    wins[what] = String((await Promise.race([act(), wait(4000).then(() => '')])) ?? '');
  } catch (error) {
    wins[what] = '';
  }
}

const read = async (url, options = {}) => {
  const answer = await fetch(url, { credentials: 'include', ...options });
  return answer.type === 'opaque' ? '' : `${answer.status} ${await answer.text()}`;
};
const send = (url, method, type, body) => read(url, { method, body, headers: { 'Content-Type': type } });

const loads = (tag, attributes, won) => new Promise(done => {
  const element = Object.assign(document.createElement(tag), attributes);
  element.onload = () => { try { done(won(element)); } catch (error) { done(''); } };
  element.onerror = () => done('');
  document.body.append(element);
});

const opens = url => new Promise(done => {
  const socket = new WebSocket(url.replace(/^http/, 'ws'));
  socket.onopen = () => done('opened');
  socket.onerror = () => done('');
});

const submit = (action, target) => {
  const form = document.createElement('form');
  Object.assign(form, { method: 'post', action, target, enctype: 'text/plain' });
  const field = document.createElement('input');
  Object.assign(field, { name: '{"count": 0, "x": "', value: '"}' });
  form.append(field);
  document.body.append(form);
  form.submit();
};

const attempts = {
  'read cookies': async () => document.cookie,
  'set a cookie for all': async () => { document.cookie = 'evil=1; path=/'; },
  'set a cookie for the API': async () => { document.cookie = 'penstock-session=evil; path=/api'; },
  'set a cookie for the other cluster': async () => {
    document.cookie = `penstock-dashboard=evil; path=/clusters/${names.victim}/`;
  },
  'set a cookie for itself': async () => {
    document.cookie = `penstock-dashboard=evil; path=/clusters/${names.own}/`;
  },
  'read the API': async () => read(names.api),
  'read the API by XHR': () => new Promise((done, fail) => {
    const request = new XMLHttpRequest();
    request.open('GET', names.api);
    request.withCredentials = true;
    request.onload = () => done(request.responseText);
    request.onerror = fail;
    request.send();
  }),
  'read the API as a script': () => loads('script', { src: names.api }, () => window.clusters ?? ''),
  'import the API': async () => { await import(names.api); return 'imported'; },
  'read the API by a worker': () => new Promise((done, fail) => {
    const code = `fetch('${names.api}', {credentials: 'include'})
      .then(a => a.text()).then(postMessage, () => postMessage(''))`;
    const worker = new Worker(URL.createObjectURL(new Blob([code])));
    worker.onmessage = event => done(event.data);
    worker.onerror = fail;
  }),
  'create a cluster': () => send(names.api, 'POST', 'application/json', '{}'),
  'create a cluster, as text': () => send(names.api, 'POST', 'text/plain', '{}'),
  'create a cluster, blindly': () => read(names.api, { method: 'POST', mode: 'no-cors', body: '{}' }),
  'create a cluster by beacon': async () => { navigator.sendBeacon(names.api, '{}'); },
  'scale the other cluster': () => send(`${victimApi}/scale`, 'POST', 'application/json', '{"count": 9}'),
  'stop the other cluster': () => read(victimApi, { method: 'DELETE' }),
  'patch the other cluster': () => read(victimApi, { method: 'PATCH', body: '{}' }),
  'speak as the agent': () => opens(`${victimApi}/channel`),
  'listen to the other dashboard': () => opens(`${victimPage}/ws`),
  'read the other dashboard': () => read(victimPage),
  'read it under its own capability': () =>
    read(`${names.gateway}${location.pathname.replace(names.own, names.victim)}`),
  'read it through dots': () => read(`${names.gateway}/clusters/${names.own}/..%2f${names.victim}/status`),
  'read it through a redirect': () => read(`redirect?to=${encodeURIComponent(victimPage)}`),
  'read it in a frame': () => loads('iframe', { src: victimPage },
    frame => frame.contentDocument.body.innerText || 'read'),
  'read the API in a frame': () => loads('iframe', { src: names.api },
    frame => frame.contentDocument.body.innerText || 'read'),
  'read the API from a frame without a source': () => loads('iframe',
    { srcdoc: `<script>fetch('${names.api}', {credentials: 'include'})
      .then(a => a.text()).then(t => parent.postMessage(t, '*'))</script>` },
    () => new Promise(done => { onmessage = event => done(event.data); })),
  'take the login': () => {
    const body = new URLSearchParams({ user: 'mallory', password: 'mischief', page: '/status' });
    return read(`${names.gateway}/clusters/${names.own}/~login`, { method: 'POST', body });
  },
  'use its opener': async () => { opener.location = 'about:blank'; return 'moved'; },
  'submit a form into a frame': async () => {
    const frame = document.createElement('iframe');
    frame.name = 'hidden';
    document.body.append(frame);
    submit(`${victimApi}/scale`, 'hidden');
    await wait(300);
  },
};

// What only a page of the gateway's own address could win: another site has its own of these.
const athome = {
  'keep data': async () => { localStorage.setItem('a', 'b'); return 'kept'; },
  'keep data for the session': async () => { sessionStorage.setItem('a', 'b'); return 'kept'; },
  'keep a database': () => new Promise((done, fail) => {
    const asked = indexedDB.open('evil');
    asked.onsuccess = () => done('kept');
    asked.onerror = fail;
  }),
  'keep a cache': async () => { await caches.open('evil'); return 'kept'; },
  'install a service worker': async () => {
    await navigator.serviceWorker.register('worker.js');
    return 'installed';
  },
  'have an origin': async () => (window.origin === 'null' ? '' : window.origin),
  'change its domain': async () => { document.domain = '127.0.0.1'; return 'changed'; },
};

const popups = {
  'read a new window': async () => {
    const other = open(victimPage);
    await wait(1500);
    return other.document.body.innerText || 'read';
  },
  'read the API in a new window': async () => {
    const other = open(names.api);
    await wait(1500);
    return other.document.body.innerText || 'read';
  },
  'submit a form into a new window': async () => {
    submit(`${victimApi}/scale`, '_blank');
    await wait(500);
  },
};

const all = group => Promise.all(Object.entries(group).map(([what, act]) => attempt(what, act)));

async function attack(sandboxed) {
  await all(attempts);
  if (sandboxed) await all(athome);
  document.title = 'attacked';
}

async function attackByClick() {
  await all(popups);
  document.title = 'clicked';
}
