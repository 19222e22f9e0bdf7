// segmentio/kafka-go: Writer, Reader, and Client for administration.
package main

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"

	"walrus/compat/client"
)

type segmentio struct{}

func main() { client.Main(segmentio{}) }

var codecs = map[string]kafka.Compression{
	"none":   0,
	"gzip":   kafka.Gzip,
	"snappy": kafka.Snappy,
	"lz4":    kafka.Lz4,
	"zstd":   kafka.Zstd,
}

// This library has no idempotent producer: it writes twice what it did not hear of.
func (segmentio) Write(brokers, topic, codec string, lines <-chan string) error {
	var writes sync.WaitGroup
	writer := &kafka.Writer{
		Addr:         kafka.TCP(strings.Split(brokers, ",")...),
		Topic:        topic,
		Compression:  codecs[codec],
		RequiredAcks: kafka.RequireAll,
		BatchTimeout: 5 * time.Millisecond,
		MaxAttempts:  100,
		Async:        true,
		Completion: func(messages []kafka.Message, err error) {
			for _, message := range messages {
				if err != nil {
					client.Refused(string(message.Value), err)
				} else {
					client.Acked(string(message.Value), message.Offset)
				}
				writes.Done()
			}
		},
	}
	for line := range lines {
		writes.Add(1)
		if err := writer.WriteMessages(context.Background(), kafka.Message{Value: []byte(line)}); err != nil {
			return err
		}
	}
	writes.Wait()
	return writer.Close()
}

func (segmentio) Read(brokers, topic string, count int) error {
	reader := kafka.NewReader(kafka.ReaderConfig{Brokers: strings.Split(brokers, ","), Topic: topic})
	defer reader.Close()
	for range count {
		message, err := reader.ReadMessage(context.Background())
		if err != nil {
			return err
		}
		client.Read(message.Topic, message.Offset, string(message.Value))
	}
	return nil
}

func (segmentio) Join(brokers, group, name string, topics []string, leave <-chan struct{}) error {
	reader := kafka.NewReader(kafka.ReaderConfig{
		Brokers:           strings.Split(brokers, ","),
		Dialer:            &kafka.Dialer{ClientID: name, Timeout: 10 * time.Second},
		GroupID:           group,
		GroupTopics:       topics,
		GroupBalancers:    []kafka.GroupBalancer{kafka.RoundRobinGroupBalancer{}},
		StartOffset:       kafka.FirstOffset,
		MaxWait:           500 * time.Millisecond,
		SessionTimeout:    client.Session,
		HeartbeatInterval: client.Heartbeat,
		ErrorLogger:       kafka.LoggerFunc(client.Notef),
	})
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-leave; cancel() }()
	for {
		message, err := reader.FetchMessage(ctx)
		if errors.Is(err, context.Canceled) {
			return reader.Close()
		}
		if err != nil {
			client.Note(err) // a broker that cannot be reached, say: the reader itself tries on
			continue
		}
		client.Read(message.Topic, message.Offset, string(message.Value))
		if err := reader.CommitMessages(context.Background(), message); err != nil {
			client.Note(err)
		}
	}
}

func (segmentio) Admin(brokers, topic, group string) error {
	admin := &kafka.Client{Addr: kafka.TCP(strings.Split(brokers, ",")...)}
	ctx := context.Background()
	create := func() error {
		created, err := admin.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{
			Topic: topic, NumPartitions: 1, ReplicationFactor: 1,
			ConfigEntries: []kafka.ConfigEntry{{ConfigName: "retention.ms", ConfigValue: "7200000"}},
		}}})
		return errors.Join(err, errorOf(created, topic))
	}
	if err := create(); err != nil {
		return err
	}
	found, err := admin.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}})
	if err != nil {
		return err
	}
	client.Step("partitions", len(found.Topics[0].Partitions))
	client.Step("created twice", word(create()))
	if err := configs(ctx, admin, topic); err != nil {
		return err
	}
	if err := groups(ctx, admin, group); err != nil {
		return err
	}
	deleted, err := admin.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: []string{topic}})
	if err := errors.Join(err, deleted.Errors[topic]); err != nil {
		return err
	}
	admin.Transport = &kafka.Transport{} // one that has cached nothing
	found, err = admin.Metadata(ctx, &kafka.MetadataRequest{})
	isListed := false
	for _, one := range found.Topics {
		isListed = isListed || one.Name == topic
	}
	client.Step("topic is listed", isListed)
	return err
}

func errorOf(created *kafka.CreateTopicsResponse, topic string) error {
	if created == nil {
		return nil
	}
	return created.Errors[topic]
}

func configs(ctx context.Context, admin *kafka.Client, topic string) error {
	describe := func(step string) error {
		found, err := admin.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{
			Resources: []kafka.DescribeConfigRequestResource{{
				ResourceType: kafka.ResourceTypeTopic, ResourceName: topic, ConfigNames: []string{"retention.ms"},
			}},
		})
		if err != nil {
			return err
		}
		client.Step(step, found.Resources[0].ConfigEntries[0].ConfigValue)
		return found.Resources[0].Error
	}
	if err := describe("retention"); err != nil {
		return err
	}
	altered, err := admin.IncrementalAlterConfigs(ctx, &kafka.IncrementalAlterConfigsRequest{
		Resources: []kafka.IncrementalAlterConfigsRequestResource{{
			ResourceType: kafka.ResourceTypeTopic,
			ResourceName: topic,
			Configs: []kafka.IncrementalAlterConfigsRequestConfig{{
				Name: "retention.ms", Value: "3600000", ConfigOperation: kafka.ConfigOperationSet,
			}},
		}},
	})
	if err != nil {
		return err
	}
	if err := altered.Resources[0].Error; err != nil {
		return err
	}
	return describe("retention altered")
}

func groups(ctx context.Context, admin *kafka.Client, group string) error {
	listed, err := admin.ListGroups(ctx, &kafka.ListGroupsRequest{})
	if err != nil {
		return err
	}
	isListed := false
	for _, one := range listed.Groups {
		isListed = isListed || one.GroupID == group
	}
	client.Step("group is listed", isListed)
	described, err := admin.DescribeGroups(ctx, &kafka.DescribeGroupsRequest{GroupIDs: []string{group}})
	if err != nil {
		return err
	}
	client.Step("group", described.Groups[0].GroupState)
	remove := func() error {
		deleted, err := admin.DeleteGroups(ctx, &kafka.DeleteGroupsRequest{GroupIDs: []string{group}})
		if err != nil {
			return err
		}
		return deleted.Errors[group]
	}
	if err := remove(); err != nil {
		return err
	}
	client.Step("group deleted twice", word(remove()))
	return nil
}

// word is the name of Kafka's error code, for those that the tests ask for.
func word(err error) string {
	switch {
	case err == nil:
		return "NONE"
	case errors.Is(err, kafka.TopicAlreadyExists):
		return "TOPIC_ALREADY_EXISTS"
	case errors.Is(err, kafka.GroupIdNotFound):
		return "GROUP_ID_NOT_FOUND"
	}
	return err.Error()
}
