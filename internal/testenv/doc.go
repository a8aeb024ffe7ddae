// Package testenv gives integration tests the servers they need: a real Kafka, a real Redis, a real Chromium.
//
//   - [Kafka] is a node that may be shared by every test of a run: the one that `make test` started, or one of the
//     test's own. Tests on it use names of their own ([Name]) and change nothing else.
//   - [StartKafka] and [StartRedis] give a test a server of its own to kill, pause and restart, on the same port and data.
//   - [NewKafkaCluster], [NewRedis], [NewToxiproxy] and [NewProgram] prepare the same for programs that are no tests.
//   - What a machine lacks skips the test with a line that says what is missing and how to get it; where the
//     environment has CI=true the test fails instead, so that no build is green for tests that did not run.
//
// Servers listen on loopback alone, keep their data in the test's temporary folder, and die with the test process
// whatever happens to it (on Linux; elsewhere a test process that is killed leaves them behind).
//
// The servers' programs are found on the PATH, and Kafka's jars in .local, where deploy/local/install puts them.
// Nothing is installed from within a test.
package testenv
