// sarama: asynchronous producer, consumer group and cluster admin.
package main

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/IBM/sarama"

	"walrus/compat/client"
)

type ibm struct{}

func main() { client.Main(ibm{}) }

func settings() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	return config
}

var codecs = map[string]sarama.CompressionCodec{
	"none":   sarama.CompressionNone,
	"gzip":   sarama.CompressionGZIP,
	"snappy": sarama.CompressionSnappy,
	"lz4":    sarama.CompressionLZ4,
	"zstd":   sarama.CompressionZSTD,
}

func (ibm) Write(kafka, topic, codec string, lines <-chan string) error {
	config := settings()
	config.Producer.Compression = codecs[codec]
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Return.Successes = true
	config.Producer.Idempotent = true
	config.Producer.Retry.Max = 100
	config.Net.MaxOpenRequests = 1 // it insists on this for idempotence
	producer, err := sarama.NewAsyncProducer(strings.Split(kafka, ","), config)
	if err != nil {
		return err
	}
	var reports sync.WaitGroup
	reports.Add(2)
	go func() {
		defer reports.Done()
		for message := range producer.Successes() {
			client.Acked(message.Metadata.(string), message.Offset)
		}
	}()
	go func() {
		defer reports.Done()
		for failed := range producer.Errors() {
			client.Refused(failed.Msg.Metadata.(string), failed.Err)
		}
	}()
	for line := range lines {
		producer.Input() <- &sarama.ProducerMessage{
			Topic: topic, Value: sarama.StringEncoder(line), Metadata: line,
		}
	}
	producer.AsyncClose()
	reports.Wait()
	return nil
}

func (ibm) Read(kafka, topic string, count int) error {
	consumer, err := sarama.NewConsumer(strings.Split(kafka, ","), settings())
	if err != nil {
		return err
	}
	defer consumer.Close()
	partition, err := consumer.ConsumePartition(topic, 0, sarama.OffsetOldest)
	if err != nil {
		return err
	}
	defer partition.Close()
	for range count {
		message := <-partition.Messages()
		client.Read(message.Topic, message.Offset, string(message.Value))
	}
	return nil
}

func (ibm) Join(kafka, group, name string, topics []string, leave <-chan struct{}) error {
	config := settings()
	config.ClientID = name
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.Return.Errors = true
	config.Consumer.Group.Session.Timeout = client.Session
	config.Consumer.Group.Heartbeat.Interval = client.Heartbeat
	config.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{
		sarama.NewBalanceStrategyRoundRobin(),
	}
	member, err := sarama.NewConsumerGroup(strings.Split(kafka, ","), group, config)
	if err != nil {
		return err
	}
	go func() {
		for err := range member.Errors() {
			client.Note(err)
		}
	}()
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-leave; cancel() }()
	for ctx.Err() == nil {
		if err := member.Consume(ctx, topics, reader{}); err != nil {
			client.Note(err)
		}
	}
	return member.Close()
}

type reader struct{}

func (reader) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (reader) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (reader) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message, ok := <-claim.Messages():
			if !ok {
				return nil
			}
			client.Read(message.Topic, message.Offset, string(message.Value))
			session.MarkMessage(message, "")
			session.Commit()
		case <-session.Context().Done():
			return nil
		}
	}
}

func (ibm) Admin(kafka, topic, group string) error {
	admin, err := sarama.NewClusterAdmin(strings.Split(kafka, ","), settings())
	if err != nil {
		return err
	}
	defer admin.Close()
	wanted := &sarama.TopicDetail{
		NumPartitions:     1,
		ReplicationFactor: -1,
		ConfigEntries:     map[string]*string{"retention.ms": text("7200000")},
	}
	if err := admin.CreateTopic(topic, wanted, false); err != nil {
		return err
	}
	found, err := admin.DescribeTopics([]string{topic})
	if err != nil {
		return err
	}
	client.Step("partitions", len(found[0].Partitions))
	client.Step("created twice", word(admin.CreateTopic(topic, wanted, false)))
	if err := configs(admin, topic); err != nil {
		return err
	}
	if err := groups(admin, group); err != nil {
		return err
	}
	if err := admin.DeleteTopic(topic); err != nil {
		return err
	}
	topics, err := admin.ListTopics()
	_, isListed := topics[topic]
	client.Step("topic is listed", isListed)
	return err
}

func configs(admin sarama.ClusterAdmin, topic string) error {
	describe := func(step string) error {
		found, err := admin.DescribeConfig(sarama.ConfigResource{
			Type: sarama.TopicResource, Name: topic, ConfigNames: []string{"retention.ms"},
		})
		for _, entry := range found {
			client.Step(step, entry.Value)
		}
		return err
	}
	if err := describe("retention"); err != nil {
		return err
	}
	change := map[string]sarama.IncrementalAlterConfigsEntry{
		"retention.ms": {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: text("3600000")},
	}
	if err := admin.IncrementalAlterConfig(sarama.TopicResource, topic, change, false); err != nil {
		return err
	}
	return describe("retention altered")
}

func groups(admin sarama.ClusterAdmin, group string) error {
	listed, err := admin.ListConsumerGroups()
	if err != nil {
		return err
	}
	_, isListed := listed[group]
	client.Step("group is listed", isListed)
	described, err := admin.DescribeConsumerGroups([]string{group})
	if err != nil {
		return err
	}
	client.Step("group", described[0].State)
	if err := admin.DeleteConsumerGroup(group); err != nil {
		return err
	}
	client.Step("group deleted twice", word(admin.DeleteConsumerGroup(group)))
	return nil
}

func text(value string) *string { return &value }

// word is the name of Kafka's error code, for those that the tests ask for.
func word(err error) string {
	switch {
	case err == nil:
		return "NONE"
	case errors.Is(err, sarama.ErrTopicAlreadyExists):
		return "TOPIC_ALREADY_EXISTS"
	case errors.Is(err, sarama.ErrGroupIDNotFound):
		return "GROUP_ID_NOT_FOUND"
	}
	return err.Error()
}
