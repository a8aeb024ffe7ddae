package kafka_test

import (
	"strings"
	"testing"
	"time"

	"github.com/eventissuer/eventissuer/broker"
	"github.com/eventissuer/eventissuer/broker/kafka"
	"github.com/eventissuer/eventissuer/internal/testenv"
)

func TestSecureKafkaIsReachedByEveryMechanism(t *testing.T) {
	node := testenv.StartKafka(t, testenv.KafkaOptions{Secure: true})
	ca := kafka.TLS{Enable: true, CAFile: node.CAFile()}
	for name, cfg := range map[string]kafka.Config{
		"TLS":           {Brokers: []string{node.TLSAddr()}, TLS: ca},
		"PLAIN":         {Brokers: []string{node.SASLAddr()}, TLS: ca, SASL: kafka.SASL{Mechanism: "plain", User: testenv.KafkaUser, Password: testenv.KafkaPassword}},
		"SCRAM-SHA-256": {Brokers: []string{node.SASLAddr()}, TLS: ca, SASL: kafka.SASL{Mechanism: "SCRAM-SHA-256", User: testenv.KafkaUser, Password: testenv.KafkaPassword}},
		"SCRAM-SHA-512": {Brokers: []string{node.SASLAddr()}, TLS: ca, SASL: kafka.SASL{Mechanism: "SCRAM-SHA-512", User: testenv.KafkaUser, Password: testenv.KafkaPassword}},
	} {
		t.Run(name, func(t *testing.T) {
			log := open(t, cfg)
			topic := testenv.Name("secure")
			epoch := makeTopic(t, log, topic, 1)
			w := newWatcher()
			tail(t, log, topic, epoch, 1, w)
			appendOne(t, log, topic, broker.Message{Value: []byte("secret")})
			w.await(t, "the record", func() bool { return len(w.records) == 1 })
		})
	}
	for name, cfg := range map[string]kafka.Config{
		"a wrong password":     {Brokers: []string{node.SASLAddr()}, TLS: ca, SASL: kafka.SASL{Mechanism: "SCRAM-SHA-512", User: testenv.KafkaUser, Password: "wrong"}},
		"an unknown authority": {Brokers: []string{node.TLSAddr()}, TLS: kafka.TLS{Enable: true}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg.RequestTimeout = 5 * time.Second
			log := open(t, cfg)
			if err := log.Create(t.Context(), testenv.Name("secure"), broker.TopicConfig{Partitions: 1}); err == nil {
				t.Error("got in")
			} else if !strings.Contains(err.Error(), "uthenti") && !strings.Contains(err.Error(), "certificate") {
				t.Errorf("the error does not say what is wrong: %v", err)
			}
		})
	}
}

func TestConfigThatCannotWorkIsRefusedWithTheReason(t *testing.T) {
	brokers := []string{"127.0.0.1:1"}
	for want, cfg := range map[string]kafka.Config{
		"at least one host:port":    {},
		"expected PLAIN":            {Brokers: brokers, SASL: kafka.SASL{Mechanism: "GSSAPI"}},
		"without a SASL mechanism":  {Brokers: brokers, SASL: kafka.SASL{User: "u"}},
		"authorities":               {Brokers: brokers, TLS: kafka.TLS{Enable: true, CAFile: "/nowhere.pem"}},
		"both its certificate file": {Brokers: brokers, TLS: kafka.TLS{Enable: true, CertFile: "/nowhere.pem"}},
	} {
		log, err := kafka.New(cfg, kafka.Deps{})
		if err == nil {
			_ = log.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", cfg, err, want)
		}
	}
}
