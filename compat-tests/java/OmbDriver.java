import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Asks of the broker what the Kafka driver of the OpenMessaging Benchmark asks: topics with several
 * partitions wanted, created in one request; one group, consumer and producer for each; a probe that
 * must arrive everywhere; then load, committed asynchronously after every poll. Throws unless all
 * arrives in order with the producer's timestamps, and all of it is committed.
 *
 * <p>Arguments: bootstrap servers, prefix of the topics, how many topics, messages for each.
 */
public final class OmbDriver {
    private static final AtomicBoolean isOver = new AtomicBoolean();

    public static void main(String[] arguments) throws Exception {
        String servers = arguments[0];
        int topicCount = Integer.parseInt(arguments[2]);
        int messageCount = Integer.parseInt(arguments[3]);
        List<String> topics = new ArrayList<>();
        for (int number = 0; number < topicCount; number++) {
            topics.add("%s-%07d".formatted(arguments[1], number));
        }
        createTopics(servers, topics);
        CountDownLatch probed = new CountDownLatch(topicCount);
        CountDownLatch complete = new CountDownLatch(topicCount);
        ExecutorService threads = Executors.newCachedThreadPool();
        List<Future<?>> consumers = new ArrayList<>();
        for (String topic : topics) {
            consumers.add(
                    threads.submit(
                            () -> consume(servers, topic, messageCount + 1, probed, complete)));
        }
        Map<String, KafkaProducer<String, byte[]>> producers = new HashMap<>();
        for (String topic : topics) {
            producers.put(topic, producer(servers));
            producers.get(topic).send(new ProducerRecord<>(topic, "key", new byte[10])).get();
        }
        check(probed.await(60, TimeUnit.SECONDS), "consumers are not ready: " + probed);
        for (int number = 1; number <= messageCount; number++) {
            for (String topic : topics) {
                byte[] value = ("%010d".formatted(number)).getBytes(StandardCharsets.UTF_8);
                producers.get(topic).send(new ProducerRecord<>(topic, null, value));
            }
        }
        producers.values().forEach(KafkaProducer::close);
        complete.await(60, TimeUnit.SECONDS);
        isOver.set(true);
        for (Future<?> consumer : consumers) {
            consumer.get();
        }
        threads.shutdown();
        System.out.println("closed");
    }

    private static void createTopics(String servers, List<String> topics) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", servers))) {
            List<NewTopic> asked = new ArrayList<>();
            for (String topic : topics) {
                asked.add(
                        new NewTopic(topic, 4, (short) 1)
                                .configs(
                                        Map.of(
                                                "min.insync.replicas", "1",
                                                "flush.messages", "1",
                                                "flush.ms", "0")));
            }
            // Anything but success makes the driver ask again, without end and without a pause.
            admin.createTopics(asked).all().get();
            Set<String> found = new HashSet<>(admin.listTopics().names().get());
            check(found.containsAll(topics), "a created topic is not there");
        }
    }

    private static KafkaProducer<String, byte[]> producer(String servers) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", servers);
        settings.put("acks", "all");
        settings.put("linger.ms", "1");
        settings.put("batch.size", "131072");
        return new KafkaProducer<>(settings, new StringSerializer(), new ByteArraySerializer());
    }

    private static Void consume(
            String servers, String topic, int count, CountDownLatch probed, CountDownLatch complete)
            throws Exception {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", servers);
        settings.put("group.id", "sub-000-" + topic);
        settings.put("auto.offset.reset", "earliest");
        settings.put("enable.auto.commit", "false");
        settings.put("max.partition.fetch.bytes", "10485760");
        TopicPartition partition = new TopicPartition(topic, 0);
        Set<String> failures = ConcurrentHashMap.newKeySet();
        long startMs = System.currentTimeMillis();
        int next = 0;
        try (KafkaConsumer<String, byte[]> consumer =
                new KafkaConsumer<>(
                        settings, new StringDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of(topic));
            while (next < count && !isOver.get()) {
                ConsumerRecords<String, byte[]> records =
                        consumer.poll(Duration.ofMillis(100));
                for (ConsumerRecord<String, byte[]> record : records) {
                    check(record.partition() == 0 && record.offset() == next, "at " + record);
                    // The driver's latency is now minus this: it must be the producer's own.
                    long lateMs = System.currentTimeMillis() - record.timestamp();
                    check(record.timestamp() >= startMs && lateMs >= 0, "time of " + record);
                    if (next++ == 0) {
                        probed.countDown();
                    }
                }
                if (!records.isEmpty()) {
                    consumer.commitAsync(
                            Map.of(partition, new OffsetAndMetadata(next)),
                            (offsets, error) -> {
                                if (error != null) {
                                    failures.add(error.toString());
                                }
                            });
                }
            }
        }
        check(failures.isEmpty(), "commits failed: " + failures);
        check(next == count, topic + ": " + next + " of " + count + " messages came");
        complete.countDown();
        return null;
    }

    private static void check(boolean isTrue, String what) {
        if (!isTrue) {
            throw new IllegalStateException(what);
        }
    }
}
