import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.*;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Every call of Java's Admin for which the broker lists an API, on topics and groups of its own.
 * Throws when an answer is not Kafka's.
 *
 * <p>Arguments: bootstrap servers, a name nobody uses.
 */
public final class AdminCalls {
    private static Admin admin;
    private static String servers;
    private static String topic;
    private static TopicPartition partition;

    public static void main(String[] arguments) throws Exception {
        servers = arguments[0];
        topic = arguments[1];
        partition = new TopicPartition(topic, 0);
        Properties settings = new Properties();
        settings.put("bootstrap.servers", servers);
        settings.put("default.api.timeout.ms", "30000");
        try (Admin opened = Admin.create(settings)) {
            admin = opened;
            cluster();
            Uuid id = createdTopic();
            partitions();
            configs();
            offsets();
            deletedRecords();
            logDirs();
            groups();
            acls();
            deletedTopics(id);
        }
        System.out.println("closed");
    }

    private static void cluster() throws Exception {
        DescribeClusterResult cluster =
                admin.describeCluster(
                        new DescribeClusterOptions().includeAuthorizedOperations(true));
        check(!cluster.nodes().get().isEmpty(), "nodes");
        check(cluster.nodes().get().contains(cluster.controller().get()), "the controller");
        check(cluster.clusterId().get() != null, "the id of the cluster");
        check(!cluster.authorizedOperations().get().isEmpty(), "authorized operations");
    }

    private static Uuid createdTopic() throws Exception {
        NewTopic asked =
                new NewTopic(topic, Optional.of(1), Optional.empty())
                        .configs(Map.of("retention.ms", "86400000"));
        admin.createTopics(List.of(asked), new CreateTopicsOptions().validateOnly(true)).all().get();
        check(!admin.listTopics().names().get().contains(topic), "it was only validated");
        CreateTopicsResult result = admin.createTopics(List.of(asked));
        Uuid id = result.topicId(topic).get();
        check(result.numPartitions(topic).get() == 1, "one partition");
        check("86400000".equals(result.config(topic).get().get("retention.ms").value()), "config");
        refused(admin.createTopics(List.of(asked)).all(), TopicExistsException.class);
        refused(
                admin.createTopics(List.of(new NewTopic("in valid", 1, (short) 1))).all(),
                InvalidTopicException.class);
        check(admin.listTopics().names().get().contains(topic), "it is listed");
        TopicDescription byName = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
        check(byName.topicId().equals(id) && byName.partitions().size() == 1, "by name");
        TopicDescription byId =
                admin.describeTopics(TopicCollection.ofTopicIds(List.of(id)))
                        .allTopicIds()
                        .get()
                        .get(id);
        check(byId.name().equals(topic), "by id");
        refused(
                admin.describeTopics(List.of("nowhere")).allTopicNames(),
                UnknownTopicOrPartitionException.class);
        return id;
    }

    private static void partitions() throws Exception {
        refused(
                admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(2))).all(),
                InvalidPartitionsException.class);
    }

    private static void configs() throws Exception {
        ConfigResource ours = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        admin.incrementalAlterConfigs(
                        Map.of(
                                ours,
                                List.of(
                                        set("max.message.bytes", "2000000"),
                                        new AlterConfigOp(
                                                new ConfigEntry("retention.ms", null),
                                                AlterConfigOp.OpType.DELETE))))
                .all()
                .get();
        DescribeConfigsOptions options =
                new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true);
        Config found = admin.describeConfigs(List.of(ours), options).all().get().get(ours);
        ConfigEntry changed = found.get("max.message.bytes");
        check("2000000".equals(changed.value()), "the value");
        check(changed.source() == ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, "the source");
        check(changed.synonyms().size() >= 2, "synonyms");
        check(changed.type() == ConfigEntry.ConfigType.INT, "the type");
        check(changed.documentation() != null, "documentation");
        check(found.get("retention.ms").isDefault(), "deleted means default");
        refused(
                admin.incrementalAlterConfigs(Map.of(ours, List.of(set("retention.ms", "soon"))))
                        .all(),
                InvalidConfigurationException.class);
        String node = admin.describeCluster().nodes().get().iterator().next().idString();
        ConfigResource broker = new ConfigResource(ConfigResource.Type.BROKER, node);
        Config ofNode = admin.describeConfigs(List.of(broker), options).all().get().get(broker);
        check(node.equals(ofNode.get("broker.id").value()), "the node");
        check("1".equals(ofNode.get("num.partitions").value()), "one partition");
        check(ofNode.entries().stream().allMatch(one -> one.documentation() != null), "explained");
        check(ofNode.entries().stream().allMatch(ConfigEntry::isReadOnly), "read-only");
    }

    private static AlterConfigOp set(String name, String value) {
        return new AlterConfigOp(new ConfigEntry(name, value), AlterConfigOp.OpType.SET);
    }

    private static void offsets() throws Exception {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", servers);
        try (KafkaProducer<String, String> producer =
                new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            for (long number : List.of(100L, 300L, 200L)) {
                producer.send(new ProducerRecord<>(topic, 0, number, null, "at " + number)).get();
            }
        }
        check(offset(OffsetSpec.earliest()) == 0, "earliest");
        check(offset(OffsetSpec.latest()) == 3, "latest");
        check(offset(OffsetSpec.maxTimestamp()) == 1, "the maximal timestamp");
        check(offset(OffsetSpec.forTimestamp(150)) == 1, "by timestamp");
        check(offset(OffsetSpec.forTimestamp(301)) == -1, "after the end of time");
    }

    private static long offset(OffsetSpec spec) throws Exception {
        return admin.listOffsets(Map.of(partition, spec)).partitionResult(partition).get().offset();
    }

    private static void deletedRecords() throws Exception {
        DeletedRecords result =
                admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(2)))
                        .lowWatermarks()
                        .get(partition)
                        .get();
        check(result.lowWatermark() == 2, "the low watermark");
        check(offset(OffsetSpec.earliest()) == 2, "earliest after deletion");
        refused(
                admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(99))).all(),
                OffsetOutOfRangeException.class);
    }

    private static void logDirs() throws Exception {
        int node = admin.describeCluster().nodes().get().iterator().next().id();
        Map<String, LogDirDescription> dirs =
                admin.describeLogDirs(List.of(node)).allDescriptions().get().get(node);
        check(
                dirs.values().stream().anyMatch(dir -> dir.replicaInfos().containsKey(partition)),
                "the directory of the topic");
    }

    private static void groups() throws Exception {
        String group = topic + "-group";
        Map<TopicPartition, OffsetAndMetadata> wanted =
                Map.of(partition, new OffsetAndMetadata(2, Optional.empty(), "a note"));
        admin.alterConsumerGroupOffsets(group, wanted).all().get();
        OffsetAndMetadata found =
                admin.listConsumerGroupOffsets(group)
                        .partitionsToOffsetAndMetadata()
                        .get()
                        .get(partition);
        check(found.offset() == 2 && found.metadata().equals("a note"), "the offset");
        member(group);
        admin.deleteConsumerGroupOffsets(group, Set.of(partition)).all().get();
        check(
                admin.listConsumerGroupOffsets(group)
                                .partitionsToOffsetAndMetadata()
                                .get()
                                .get(partition)
                        == null,
                "the offset is deleted");
        admin.alterConsumerGroupOffsets(group, wanted).all().get();
        admin.deleteConsumerGroups(List.of(group)).all().get();
        refused(admin.deleteConsumerGroups(List.of(group)).all(), GroupIdNotFoundException.class);
    }

    private static void member(String group) throws Exception {
        Map<String, Object> settings = new HashMap<>();
        settings.put("bootstrap.servers", servers);
        settings.put("group.id", group);
        settings.put("group.instance.id", "static");
        try (KafkaConsumer<String, String> consumer =
                new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of(topic));
            while (consumer.assignment().isEmpty()) {
                consumer.poll(Duration.ofMillis(100));
            }
            ConsumerGroupDescription described =
                    admin.describeConsumerGroups(List.of(group)).all().get().get(group);
            check(described.members().size() == 1, "one member");
            MemberDescription member = described.members().iterator().next();
            check(member.groupInstanceId().equals(Optional.of("static")), "its name");
            check(member.assignment().topicPartitions().equals(Set.of(partition)), "its share");
            check(
                    admin.listConsumerGroups().all().get().stream()
                            .anyMatch(listed -> listed.groupId().equals(group)),
                    "it is listed");
            refused(admin.deleteConsumerGroups(List.of(group)).all(), GroupNotEmptyException.class);
            refused(
                    admin.deleteConsumerGroupOffsets(group, Set.of(partition)).all(),
                    GroupSubscribedToTopicException.class);
            admin.removeMembersFromConsumerGroup(
                            group,
                            new RemoveMembersFromConsumerGroupOptions(
                                    List.of(new MemberToRemove("static"))))
                    .all()
                    .get();
        }
        check(
                admin.describeConsumerGroups(List.of(group)).all().get().get(group).members().isEmpty(),
                "nobody is left");
    }

    private static void acls() throws Exception {
        refused(admin.describeAcls(AclBindingFilter.ANY).values(), SecurityDisabledException.class);
    }

    private static void deletedTopics(Uuid id) throws Exception {
        admin.deleteTopics(TopicCollection.ofTopicIds(List.of(id))).all().get();
        check(!admin.listTopics().names().get().contains(topic), "it is gone");
        refused(
                admin.deleteTopics(List.of(topic)).all(), UnknownTopicOrPartitionException.class);
        admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1))).all().get();
        Uuid second =
                admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).topicId();
        check(!second.equals(id), "a new topic has a new id");
        admin.deleteTopics(List.of(topic)).all().get();
    }

    private static void refused(KafkaFuture<?> future, Class<? extends ApiException> wanted)
            throws Exception {
        try {
            Object value = future.get();
            throw new IllegalStateException(
                    "no " + wanted.getSimpleName() + ", but " + (value instanceof Collection ? value : "success"));
        } catch (ExecutionException error) {
            if (!wanted.isInstance(error.getCause())) {
                throw new IllegalStateException("no " + wanted.getSimpleName(), error);
            }
        }
    }

    private static void check(boolean isTrue, String what) {
        if (!isTrue) {
            throw new IllegalStateException(what);
        }
    }
}
