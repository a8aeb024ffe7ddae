// What the scripts for k6 beside this file share.
import http from 'k6/http';
import { fail } from 'k6';

export const SERVER = (__ENV.SERVER || 'http://127.0.0.1:8080').replace(/\/$/, '');
export const STREAM = __ENV.STREAM || 'k6';
export const TYPE = __ENV.TYPE || `${STREAM}.tick`;
export const DURATION = __ENV.DURATION || '15s'; // that events are published, in seconds: 15s
export const seconds = parseInt(DURATION, 10);

const run = `${Date.now()}`; // of each virtual user: ids are made distinct by theirs

// setup makes the stream and the event type; what is there already is as well (409).
export function setup() {
  const json = { headers: { 'Content-Type': 'application/json' }, responseCallback: http.expectedStatuses(200, 201, 409) };
  const stream = http.post(`${SERVER}/v1/streams`, JSON.stringify({ name: STREAM, partitions: 4, description: 'events of k6' }), json);
  const type = http.post(`${SERVER}/v1/event-types`, JSON.stringify({ type: TYPE, stream: STREAM, description: "k6's event" }), json);
  for (const answer of [stream, type]) {
    if (![200, 201, 409].includes(answer.status)) {
      fail(`${answer.request.url}: ${answer.status} ${answer.body}`);
    }
  }
}

// event is a CloudEvent that says when it was sent.
export function event(id) {
  return {
    specversion: '1.0', id: `${run}-${id}`, source: '/k6', type: TYPE, subject: `/k6/${id.length % 4}`, datacontenttype: 'application/json',
    data: { sent: Date.now(), pad: 'x'.repeat(200) },
  };
}

// arrived is how long an event took, in milliseconds. Publisher and reader must have one clock.
export function arrived(e) {
  return Math.max(0, Date.now() - e.data.sent);
}
