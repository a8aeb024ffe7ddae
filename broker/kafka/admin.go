package kafka

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/IBM/sarama"

	"github.com/eventissuer/eventissuer/broker"
)

// Create implements broker.Admin. It returns once every partition is served. Where an attempt was not answered and the
// next one finds the topic there, whose it is cannot be told: that is ErrUnavailable, not ErrTopicExists.
func (l *Log) Create(ctx context.Context, topic string, c broker.TopicConfig) error {
	ctx, end, err := l.begin(ctx, l.cfg.RequestTimeout)
	if err != nil {
		return err
	}
	defer end()
	detail := &sarama.TopicDetail{NumPartitions: c.Partitions, ReplicationFactor: c.ReplicationFactor, ConfigEntries: configEntries(c)}
	if detail.NumPartitions == 0 {
		detail.NumPartitions = -1
	}
	if detail.ReplicationFactor == 0 {
		detail.ReplicationFactor = -1
	}
	var maybe bool // an earlier attempt may have made it
	err = l.atController(ctx, topic, func(c *conn) error {
		req := sarama.NewCreateTopicsRequest(l.base.Version, map[string]*sarama.TopicDetail{topic: detail}, l.cfg.RequestTimeout, false)
		resp, err := call(ctx, c, func(b *sarama.Broker) (*sarama.CreateTopicsResponse, error) { return b.CreateTopics(req) })
		if err != nil {
			maybe = true
			return err
		}
		e := resp.TopicErrors[topic]
		switch {
		case e == nil || e.Err == sarama.ErrNoError:
			return nil
		case e.Err == sarama.ErrRequestTimedOut:
			maybe = true
		case e.Err == sarama.ErrInvalidReplicationFactor && detail.ReplicationFactor <= 1:
			// One replica is always possible, unless the cluster has lost sight of all its brokers for the moment.
			return fmt.Errorf("%w: %s", broker.ErrUnavailable, e.Error())
		}
		return e
	})
	switch {
	case errors.Is(err, sarama.ErrTopicAlreadyExists) && maybe:
		return fmt.Errorf("%w: topic %s is there after an attempt to create it that was not answered", broker.ErrUnavailable, topic)
	case errors.Is(err, sarama.ErrTopicAlreadyExists):
		return fmt.Errorf("%w: %s", broker.ErrTopicExists, topic)
	case err != nil:
		return fmt.Errorf("create topic %s: %w", topic, err)
	}
	return l.ready(ctx, topic, 1)
}

// ready waits until a topic's leaders are known and serve it, which is a little later.
func (l *Log) ready(ctx context.Context, topic string, partitions int) error {
	err := l.await(ctx, topic, func(v *topicView, err error) bool {
		return err == nil && len(v.partitions) >= partitions && v.led()
	})
	if err != nil {
		return err
	}
	view, err := l.cluster.view(ctx, topic, viewAge)
	if err != nil {
		return err
	}
	return eachPartition(ctx, len(view.partitions), func(ctx context.Context, p int32) error {
		_, err := l.offset(ctx, topic, p, sarama.OffsetNewest)
		return err
	})
}

func configEntries(c broker.TopicConfig) map[string]*string {
	entries := make(map[string]*string)
	set := func(name, value string) { entries[name] = &value }
	if c.MaxMessageBytes == 0 {
		c.MaxMessageBytes = ourMessageBytes
	}
	set("max.message.bytes", strconv.Itoa(c.MaxMessageBytes))
	set("message.timestamp.type", "LogAppendTime")
	if c.Retention != 0 {
		set("retention.ms", millis(c.Retention))
	}
	if c.RetentionBytes != 0 {
		set("retention.bytes", strconv.FormatInt(max(c.RetentionBytes, -1), 10))
	}
	switch {
	case c.Compaction && c.Retention > 0:
		set("cleanup.policy", "compact,delete")
	case c.Compaction:
		set("cleanup.policy", "compact")
	}
	return entries
}

func millis(d time.Duration) string {
	if d < 0 {
		return "-1"
	}
	return strconv.FormatInt(d.Milliseconds(), 10)
}

// Describe implements broker.Admin. It tells what holds, whether it was set for the topic or is the cluster's default.
func (l *Log) Describe(ctx context.Context, topic string) (broker.TopicInfo, error) {
	ctx, end, err := l.begin(ctx, l.cfg.RequestTimeout)
	if err != nil {
		return broker.TopicInfo{}, err
	}
	defer end()
	l.metrics.describes.Inc()
	view, err := l.fresh(ctx, topic)
	if err != nil {
		return broker.TopicInfo{}, err
	}
	configs, err := l.topicConfigs(ctx, topic, "retention.ms", "retention.bytes", "cleanup.policy", "max.message.bytes")
	if err != nil {
		return broker.TopicInfo{}, err
	}
	number := func(name string) int64 {
		n, _ := strconv.ParseInt(configs[name], 10, 64)
		return n
	}
	info := broker.TopicInfo{Epoch: view.epoch, TopicConfig: broker.TopicConfig{
		Partitions:      int32(len(view.partitions)),
		RetentionBytes:  number("retention.bytes"),
		Compaction:      strings.Contains(configs["cleanup.policy"], "compact"),
		MaxMessageBytes: int(number("max.message.bytes")),
	}}
	if len(view.partitions) > 0 {
		info.ReplicationFactor = int16(view.partitions[0].replicas)
	}
	switch ms := number("retention.ms"); {
	case !strings.Contains(configs["cleanup.policy"], "delete"), ms < 0, ms > int64(1<<63-1)/int64(time.Millisecond):
		info.Retention = -1
	default:
		info.Retention = time.Duration(ms) * time.Millisecond
	}
	return info, nil
}

// Change implements broker.Admin.
func (l *Log) Change(ctx context.Context, topic string, c broker.TopicChange) error {
	ctx, end, err := l.begin(ctx, l.cfg.RequestTimeout)
	if err != nil {
		return err
	}
	defer end()
	if _, err := l.fresh(ctx, topic); err != nil {
		return err
	}
	entries := make(map[string]sarama.IncrementalAlterConfigsEntry)
	set := func(name, value string) {
		entries[name] = sarama.IncrementalAlterConfigsEntry{Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &value}
	}
	reset := func(name string) {
		entries[name] = sarama.IncrementalAlterConfigsEntry{Operation: sarama.IncrementalAlterConfigsOperationDelete}
	}
	if c.Retention != nil {
		if *c.Retention == 0 {
			reset("retention.ms")
		} else {
			set("retention.ms", millis(*c.Retention))
		}
		// On a topic that is only compacted nothing is deleted for its age, whatever retention.ms says.
		configs, err := l.topicConfigs(ctx, topic, "cleanup.policy")
		if err != nil {
			return fmt.Errorf("change topic %s: %w", topic, err)
		}
		if strings.Contains(configs["cleanup.policy"], "compact") {
			policy := "compact"
			if *c.Retention > 0 {
				policy = "compact,delete"
			}
			set("cleanup.policy", policy)
		}
	}
	if c.RetentionBytes != nil {
		if *c.RetentionBytes == 0 {
			reset("retention.bytes")
		} else {
			set("retention.bytes", strconv.FormatInt(max(*c.RetentionBytes, -1), 10))
		}
	}
	if len(entries) > 0 {
		if err := l.alterConfigs(ctx, topic, entries); err != nil {
			return fmt.Errorf("change topic %s: %w", topic, err)
		}
	}
	if c.Partitions == nil {
		return nil
	}
	return l.grow(ctx, topic, *c.Partitions)
}

func (l *Log) alterConfigs(ctx context.Context, topic string, entries map[string]sarama.IncrementalAlterConfigsEntry) error {
	return l.atController(ctx, topic, func(c *conn) error {
		resp, err := call(ctx, c, func(b *sarama.Broker) (*sarama.IncrementalAlterConfigsResponse, error) {
			return b.IncrementalAlterConfigs(&sarama.IncrementalAlterConfigsRequest{Version: 1, Resources: []*sarama.IncrementalAlterConfigsResource{
				{Type: sarama.TopicResource, Name: topic, ConfigEntries: entries},
			}})
		})
		if err != nil {
			return err
		}
		for _, r := range resp.Resources {
			if code := sarama.KError(r.ErrorCode); code != sarama.ErrNoError {
				return fmt.Errorf("%w: %s", code, r.ErrorMsg)
			}
		}
		return nil
	})
}

func (l *Log) grow(ctx context.Context, topic string, partitions int32) error {
	view, err := l.fresh(ctx, topic)
	if err != nil {
		return err
	}
	switch have := int32(len(view.partitions)); {
	case partitions == have:
		return nil
	case partitions < have:
		return fmt.Errorf("change topic %s: partitions only grow: it has %d, asked for %d", topic, have, partitions)
	}
	var maybe bool // an earlier attempt may have added them
	err = l.atController(ctx, topic, func(c *conn) error {
		resp, err := call(ctx, c, func(b *sarama.Broker) (*sarama.CreatePartitionsResponse, error) {
			return b.CreatePartitions(&sarama.CreatePartitionsRequest{
				Version:         2,
				TopicPartitions: map[string]*sarama.TopicPartition{topic: {Count: partitions}},
				Timeout:         l.cfg.RequestTimeout,
			})
		})
		if err != nil {
			maybe = true
			return err
		}
		if e := resp.TopicPartitionErrors[topic]; e != nil && e.Err != sarama.ErrNoError {
			maybe = maybe || e.Err == sarama.ErrRequestTimedOut
			return e
		}
		return nil
	})
	if err != nil && (!maybe || !errors.Is(err, sarama.ErrInvalidPartitions)) {
		return fmt.Errorf("add partitions to %s: %w", topic, err)
	}
	return l.ready(ctx, topic, int(partitions))
}

// Delete implements broker.Admin. It returns once the topic is gone, as the brokers tell.
func (l *Log) Delete(ctx context.Context, topic string) error {
	ctx, end, err := l.begin(ctx, l.cfg.RequestTimeout)
	if err != nil {
		return err
	}
	defer end()
	view, err := l.fresh(ctx, topic)
	if err != nil {
		return err
	}
	err = l.atController(ctx, topic, func(c *conn) error {
		req := sarama.NewDeleteTopicsRequest(l.base.Version, []string{topic}, l.cfg.RequestTimeout)
		resp, err := call(ctx, c, func(b *sarama.Broker) (*sarama.DeleteTopicsResponse, error) { return b.DeleteTopics(req) })
		if err != nil {
			return err
		}
		// Unknown by now: an earlier attempt whose answer was lost has done it.
		if code := resp.TopicErrorCodes[topic]; code != sarama.ErrNoError && code != sarama.ErrUnknownTopicOrPartition {
			return code
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("delete topic %s: %w", topic, err)
	}
	return l.await(ctx, topic, func(v *topicView, err error) bool {
		return errors.Is(err, broker.ErrNoTopic) || err == nil && v.epoch != view.epoch
	})
}

func (v *topicView) led() bool {
	for p := range v.partitions {
		if _, err := v.leaderOf(int32(p)); err != nil {
			return false
		}
	}
	return true
}

// await looks until a topic is as wanted.
func (l *Log) await(ctx context.Context, topic string, wanted func(*topicView, error) bool) error {
	for wait := 2 * time.Millisecond; ; wait = min(2*wait, 200*time.Millisecond) {
		v, err := l.cluster.look(ctx, topic)
		if wanted(v, err) {
			return nil
		}
		if err == nil {
			err = errors.New("the change does not show yet")
		}
		if pause(ctx, wait) != nil {
			return outOfTime(ctx, err, err)
		}
	}
}

// topicConfigs asks for some of a topic's settings.
func (l *Log) topicConfigs(ctx context.Context, topic string, names ...string) (map[string]string, error) {
	configs := make(map[string]string, len(names))
	err := l.again(ctx, func() error {
		return l.cluster.anyone(ctx, func(ctx context.Context, c *conn) error {
			resp, err := call(ctx, c, func(b *sarama.Broker) (*sarama.DescribeConfigsResponse, error) {
				return b.DescribeConfigs(&sarama.DescribeConfigsRequest{
					Version: 2, Resources: []*sarama.ConfigResource{{Type: sarama.TopicResource, Name: topic, ConfigNames: names}},
				})
			})
			if err != nil {
				return err
			}
			for _, r := range resp.Resources {
				if code := sarama.KError(r.ErrorCode); code != sarama.ErrNoError {
					return fmt.Errorf("settings of %s: %w", topic, code)
				}
				for _, e := range r.Configs {
					configs[e.Name] = e.Value
				}
			}
			return nil
		})
	})
	return configs, err
}

// atController sends a request to the cluster's controller, or to the broker that passes it on.
func (l *Log) atController(ctx context.Context, topic string, ask func(*conn) error) error {
	return l.again(ctx, func() error {
		// Who the controller is comes with every view; whether this topic is there does not matter.
		if _, err := l.cluster.look(ctx, topic); err != nil && !errors.Is(err, broker.ErrNoTopic) {
			return err
		}
		addr, err := l.cluster.controllerAddr()
		if err != nil {
			return err
		}
		return l.questions.do(ctx, addr, ask)
	})
}

func (c *cluster) controllerAddr() (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	addr, ok := c.brokers[c.controller]
	if !ok {
		return "", fmt.Errorf("%w: the cluster has no controller", broker.ErrUnavailable)
	}
	return addr, nil
}

// again repeats try while what failed may pass.
func (l *Log) again(ctx context.Context, try func() error) error {
	var last error
	for wait := retryAfter; ; wait = min(2*wait, retryMost) {
		err := try()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return outOfTime(ctx, last, err)
		case !retriable(err):
			return inWords(err)
		}
		last = err
		if pause(ctx, wait) != nil {
			return outOfTime(ctx, last, err)
		}
	}
}

// retriable says whether a question to the controller is worth repeating.
func retriable(err error) bool {
	var code sarama.KError
	if !errors.As(err, &code) {
		return errors.Is(err, broker.ErrUnavailable)
	}
	switch code {
	case sarama.ErrNotController, sarama.ErrRequestTimedOut, sarama.ErrLeaderNotAvailable, sarama.ErrNotEnoughReplicas,
		sarama.ErrBrokerNotAvailable, sarama.ErrNetworkException, sarama.ErrThrottlingQuotaExceeded, sarama.ErrReassignmentInProgress:
		return true
	}
	return false
}
