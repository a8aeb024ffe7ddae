// k6 against Event Issuer, by Server-Sent Events: one publisher, and a reader for each virtual user.
//
// k6 itself does not read SSE; the extension github.com/phymbert/xk6-sse does. Build a k6 with it, and run:
//
//   go install go.k6.io/xk6/cmd/xk6@latest
//   xk6 build --with github.com/phymbert/xk6-sse --output ./k6-sse
//   ./k6-sse run -e SERVER=http://127.0.0.1:8080 -e READERS=100 -e DURATION=30s loadtest/k6/sse.js
//
// stream.js beside this file says what k6 is good for here, and has WebSocket and long-polls.
import http from 'k6/http';
import { check, sleep } from 'k6';
import { Counter, Trend } from 'k6/metrics';
import exec from 'k6/execution';
import sse from 'k6/x/sse';
import { arrived, DURATION, event, seconds, SERVER, STREAM, TYPE } from './common.js';

export { setup } from './common.js';

const RATE = Number(__ENV.RATE || 20); // events a second
const READERS = Number(__ENV.READERS || 10);

const latency = new Trend('event_latency', true);
const received = new Counter('events_received');
const failures = new Counter('sse_failures');

export const options = {
  scenarios: {
    // The streams have no end, and the extension's close() reads to it: k6 interrupts the readers once their time is over.
    read: { executor: 'constant-vus', exec: 'read', vus: READERS, duration: `${seconds + 5}s`, gracefulStop: '0s' },
    publish: { executor: 'constant-arrival-rate', exec: 'publish', rate: RATE, timeUnit: '1s', duration: DURATION, startTime: '3s', preAllocatedVUs: 10, maxVUs: 200 },
  },
  thresholds: { checks: ['rate==1'], events_received: ['count>0'], sse_failures: ['count==0'], event_latency: ['p(99)<2000'] },
};

export function publish() {
  const body = JSON.stringify(event(`${exec.vu.idInTest}-${exec.vu.iterationInInstance}`));
  const answer = http.post(`${SERVER}/v1/events`, body, { headers: { 'Content-Type': 'application/cloudevents+json' } });
  check(answer, { 'the event is persisted': (r) => r.status === 200 });
}

// read follows the stream for as long as k6 lets it.
export function read() {
  const answer = sse.open(`${SERVER}/v1/streams/${STREAM}/events`, { headers: { Accept: 'text/event-stream' } }, (client) => {
    client.on('event', (block) => {
      // A block without data carries the cursor alone; one with a name is a control message.
      if (!block.data || (block.name && block.name !== 'message')) {
        return;
      }
      const e = JSON.parse(block.data);
      if (e.type === TYPE) {
        received.add(1);
        latency.add(arrived(e));
      }
    });
    client.on('error', (e) => {
      failures.add(1);
      console.error(`SSE: ${e.error()}`);
    });
  });
  if (answer.status !== 200) {
    failures.add(1);
    sleep(1);
  }
}
