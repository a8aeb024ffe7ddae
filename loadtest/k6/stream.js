// k6 against Event Issuer: publishers by HTTP, readers by WebSocket and by long-polls, and latency from publishing to arrival.
//
//   k6 run loadtest/k6/stream.js
//   k6 run -e SERVER=http://127.0.0.1:8080 -e STREAM=k6 -e RATE=50 -e READERS=100 -e DURATION=30s loadtest/k6/stream.js
//
// It needs k6 1.0 or later and nothing else; `go install go.k6.io/k6@latest` builds one. The stream and the event type are
// made if missing. Readers on SSE are in sse.js beside this file, as k6 reads SSE by an extension alone.
//
// Read the figures with care: a virtual user takes many times the memory and processor of a reader of `loadtest`, so that on one
// machine it is soon k6 that is measured. `loadtest run` is made for more, and tells what is lost. What k6 has is your other
// scripts, its outputs and its thresholds.
import http from 'k6/http';
import { check } from 'k6';
import { Counter, Trend } from 'k6/metrics';
import exec from 'k6/execution';
import { WebSocket } from 'k6/websockets';
import { arrived, DURATION, event, seconds, SERVER, STREAM, TYPE } from './common.js';

export { setup } from './common.js';

const RATE = Number(__ENV.RATE || 20); // events a second
const READERS = Number(__ENV.READERS || 10); // of each transport

const latency = new Trend('event_latency', true);
const received = new Counter('events_received');

export const options = {
  scenarios: {
    // Readers first: they begin at what is latest once they are there.
    websocket: { executor: 'per-vu-iterations', exec: 'websocket', vus: READERS, iterations: 1, maxDuration: `${seconds + 30}s` },
    poll: { executor: 'constant-vus', exec: 'poll', vus: READERS, duration: `${seconds + 5}s`, gracefulStop: '15s' },
    // An arrival rate, so that a slow server does not slow its own load down.
    publish: { executor: 'constant-arrival-rate', exec: 'publish', rate: RATE, timeUnit: '1s', duration: DURATION, startTime: '3s', preAllocatedVUs: 10, maxVUs: 200 },
  },
  thresholds: {
    'checks': ['rate==1'],
    'events_received{transport:websocket}': ['count>0'],
    'events_received{transport:poll}': ['count>0'],
    'event_latency{transport:websocket}': ['p(99)<2000'],
  },
};

export function publish() {
  const body = JSON.stringify(event(`${exec.vu.idInTest}-${exec.vu.iterationInInstance}`));
  const answer = http.post(`${SERVER}/v1/events`, body, { headers: { 'Content-Type': 'application/cloudevents+json' } });
  check(answer, { 'the event is persisted': (r) => r.status === 200 && r.json('results.0.status') === 'persisted' });
}

// One WebSocket for as long as events are published. In eventissuer.v1 a message is {"events":[…],"cursor":"…"}.
export function websocket() {
  const ws = new WebSocket(`${SERVER.replace(/^http/, 'ws')}/v1/streams/${STREAM}/events`, 'eventissuer.v1');
  const end = setTimeout(() => ws.close(), (seconds + 5) * 1000);
  ws.addEventListener('message', (message) => {
    const block = JSON.parse(message.data);
    check(block, { 'the session goes on': (b) => b.problem === undefined });
    take(block.events || [], 'websocket');
  });
  ws.addEventListener('error', (e) => {
    check(null, { 'the WebSocket is well': () => false });
    console.error(`WebSocket: ${e.error}`);
    clearTimeout(end);
    ws.close();
  });
}

// One page after the other, by its rel="next" link. Each virtual user is a reader, and keeps its place between its turns.
let next;
export function poll() {
  const target = next || `${SERVER}/v1/streams/${STREAM}/events`; // the first page says where latest is, and does not wait
  const page = http.get(target, { headers: { Accept: 'application/cloudevents-batch+json' }, tags: { name: 'poll' } });
  const link = /<([^>]+)>; rel="next"/.exec(page.headers.Link || '');
  if (!check(page, { 'a page leads to the next': (p) => p.status === 200 && link !== null })) {
    return;
  }
  next = link[1].includes('wait=') ? link[1] : `${link[1]}&wait=5s`;
  take(page.json(), 'poll');
}

function take(events, transport) {
  for (const e of events.filter((e) => e.type === TYPE)) {
    received.add(1, { transport });
    latency.add(arrived(e), { transport });
  }
}
