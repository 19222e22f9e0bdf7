// franz-go: kgo for records and groups, kadm for administration.
package main

import (
	"context"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"walrus/compat/client"
)

type franz struct{}

func main() { client.Main(franz{}) }

func connect(kafka string, options ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append(options, kgo.SeedBrokers(strings.Split(kafka, ",")...))...)
}

var codecs = map[string]kgo.CompressionCodec{
	"none":   kgo.NoCompression(),
	"gzip":   kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(),
	"lz4":    kgo.Lz4Compression(),
	"zstd":   kgo.ZstdCompression(),
}

// Idempotence is this library's default.
func (franz) Write(kafka, topic, codec string, lines <-chan string) error {
	producer, err := connect(kafka, kgo.DefaultProduceTopic(topic), kgo.ProducerBatchCompression(codecs[codec]))
	if err != nil {
		return err
	}
	defer producer.Close()
	for line := range lines {
		producer.Produce(context.Background(), kgo.StringRecord(line), func(record *kgo.Record, err error) {
			if err != nil {
				client.Refused(line, err)
				return
			}
			client.Acked(line, record.Offset)
		})
	}
	return producer.Flush(context.Background())
}

func (franz) Read(kafka, topic string, count int) error {
	consumer, err := connect(kafka, kgo.ConsumeTopics(topic))
	if err != nil {
		return err
	}
	defer consumer.Close()
	for count > 0 {
		fetches := consumer.PollRecords(context.Background(), count)
		if err := fetches.Err(); err != nil {
			return err
		}
		count -= fetches.NumRecords()
		fetches.EachRecord(func(record *kgo.Record) {
			client.Read(record.Topic, record.Offset, string(record.Value))
		})
	}
	return nil
}

func (franz) Join(kafka, group, name string, topics []string, leave <-chan struct{}) error {
	consumer, err := connect(kafka,
		kgo.ClientID(name),
		kgo.ConsumerGroup(group),
		kgo.ConsumeTopics(topics...),
		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(), // what was polled is committed before it is somebody else's
		kgo.SessionTimeout(client.Session),
		kgo.HeartbeatInterval(client.Heartbeat),
	)
	if err != nil {
		return err
	}
	defer consumer.Close()
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-leave; cancel() }()
	for ctx.Err() == nil {
		fetches := consumer.PollFetches(ctx)
		fetches.EachError(func(_ string, _ int32, err error) { client.Note(err) })
		fetches.EachRecord(func(record *kgo.Record) {
			client.Read(record.Topic, record.Offset, string(record.Value))
		})
		if err := consumer.CommitRecords(context.Background(), fetches.Records()...); err != nil {
			client.Note(err)
		}
		consumer.AllowRebalance()
	}
	return nil
}

func (franz) Admin(kafka, topic, group string) error {
	connection, err := connect(kafka)
	if err != nil {
		return err
	}
	admin := kadm.NewClient(connection)
	defer admin.Close()
	ctx := context.Background()
	for _, step := range []func() error{
		func() error {
			created, err := admin.CreateTopic(ctx, 1, -1, map[string]*string{"retention.ms": kadm.StringPtr("7200000")}, topic)
			client.Step("partitions", created.NumPartitions)
			return err
		},
		func() error {
			_, err := admin.CreateTopic(ctx, 1, -1, nil, topic)
			client.Step("created twice", word(err))
			return nil
		},
		func() error { return describe(ctx, admin, topic, "retention") },
		func() error {
			change := kadm.AlterConfig{Op: kadm.SetConfig, Name: "retention.ms", Value: kadm.StringPtr("3600000")}
			_, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{change}, topic)
			return err
		},
		func() error { return describe(ctx, admin, topic, "retention altered") },
		func() error {
			listed, err := admin.ListGroups(ctx)
			_, found := listed[group]
			client.Step("group is listed", found)
			return err
		},
		func() error {
			lags, err := admin.Lag(ctx, group)
			client.Step("group", lags[group].State)
			client.Step("lag", lags[group].Lag.Total())
			return err
		},
		func() error {
			_, err := admin.DeleteGroup(ctx, group)
			return err
		},
		func() error {
			_, err := admin.DeleteGroup(ctx, group)
			client.Step("group deleted twice", word(err))
			return nil
		},
		func() error {
			_, err := admin.DeleteTopic(ctx, topic)
			return err
		},
		func() error {
			listed, err := admin.ListTopics(ctx)
			client.Step("topic is listed", listed.Has(topic))
			return err
		},
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func describe(ctx context.Context, admin *kadm.Client, topic, step string) error {
	found, err := admin.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return err
	}
	for _, config := range found[0].Configs {
		if config.Key == "retention.ms" {
			client.Step(step, config.MaybeValue())
		}
	}
	return found[0].Err
}

// word is the name of Kafka's error code.
func word(err error) string {
	if err == nil {
		return "NONE"
	}
	name, _, _ := strings.Cut(err.Error(), ":")
	return name
}
