package kafka_test

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/broker/brokertest"
	"github.com/eventissuer/eventissuer/broker/kafka"
)

// olderCluster is a cluster in this process that is as Kafka 3.0: it knows topics' ids, but takes fetches by their names alone.
func olderCluster(t *testing.T) *kfake.Cluster {
	t.Helper()
	return fakeCluster(t, kfake.NumBrokers(1), kfake.MaxVersions(kversion.V3_0_0()))
}

func TestContractOnAKafkaThatFetchesByName(t *testing.T) {
	brokertest.Run(t, func(t *testing.T) brokertest.Harness {
		t.Helper()
		return older{olderCluster(t)}
	})
}

type older struct{ cluster *kfake.Cluster }

// Open implements brokertest.Harness.
func (o older) Open(t testing.TB) broker.Log {
	t.Helper()
	log, err := kafka.New(kafka.Config{Brokers: o.Brokers()}, kafka.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// Brokers implements brokertest.Kafka.
func (o older) Brokers() []string { return o.cluster.ListenAddrs() }

// Compact implements brokertest.Compactor.
func (o older) Compact(testing.TB, string) { o.cluster.Compact() }
