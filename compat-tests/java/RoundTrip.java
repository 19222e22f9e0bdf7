import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.UnsupportedVersionException;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * What a lone Java client does with one topic: every codec, positions by time, pause, resume, seek,
 * and what it is told about features that are not there. Each method throws when it is disappointed.
 *
 * <p>Arguments: bootstrap servers, an unused topic's name.
 */
public final class RoundTrip {
    private static final List<String> CODECS = List.of("none", "gzip", "snappy", "lz4", "zstd");
    private static final int COUNT = 100;
    private static final Duration WAIT = Duration.ofMillis(500);

    private static String servers;
    private static TopicPartition partition;

    public static void main(String[] arguments) {
        servers = arguments[0];
        partition = new TopicPartition(arguments[1], 0);
        long startMs = System.currentTimeMillis() - 1_000_000;
        for (int turn = 0; turn < CODECS.size(); turn++) {
            write(CODECS.get(turn), turn * COUNT, startMs);
        }
        int count = COUNT * CODECS.size();
        try (KafkaConsumer<byte[], byte[]> consumer = consumer()) {
            consumer.assign(List.of(partition));
            everythingAsWritten(consumer, count, startMs);
            positionsByTime(consumer, count, startMs);
            pausedAndResumed(consumer);
            soughtAgain(consumer, count);
        }
        transactionsAreRefused();
        newGroupProtocolIsRefused();
        System.out.println("closed");
    }

    private static Properties settings() {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", servers);
        settings.put("auto.offset.reset", "earliest");
        settings.put("enable.auto.commit", "false");
        return settings;
    }

    private static KafkaConsumer<byte[], byte[]> consumer() {
        return new KafkaConsumer<>(
                settings(), new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private static byte[] value(int number) {
        return ("value " + number + " " + "x".repeat(number)).getBytes();
    }

    private static void write(String codec, int first, long startMs) {
        Properties settings = settings();
        settings.put("compression.type", codec);
        settings.put("linger.ms", "20");
        try (KafkaProducer<byte[], byte[]> producer =
                new KafkaProducer<>(
                        settings, new ByteArraySerializer(), new ByteArraySerializer())) {
            for (int number = first; number < first + COUNT; number++) {
                byte[] key = number % 2 == 0 ? null : ("key " + number).getBytes();
                ProducerRecord<byte[], byte[]> record =
                        new ProducerRecord<>(
                                partition.topic(), null, startMs + number, key, value(number));
                record.headers().add(new RecordHeader("codec", codec.getBytes()));
                producer.send(record);
            }
            producer.flush();
        }
    }

    private static List<ConsumerRecord<byte[], byte[]>> read(
            KafkaConsumer<byte[], byte[]> consumer, int count) {
        List<ConsumerRecord<byte[], byte[]>> found = new ArrayList<>();
        long deadline = System.nanoTime() + Duration.ofSeconds(30).toNanos();
        while (found.size() < count) {
            check(System.nanoTime() < deadline, found.size() + " of " + count + " records came");
            consumer.poll(WAIT).forEach(found::add);
        }
        check(found.size() == count, found.size() + " records instead of " + count);
        return found;
    }

    private static void everythingAsWritten(
            KafkaConsumer<byte[], byte[]> consumer, int count, long startMs) {
        int number = 0;
        for (ConsumerRecord<byte[], byte[]> record : read(consumer, count)) {
            check(record.offset() == number, "offset " + record.offset() + ", not " + number);
            check(record.timestamp() == startMs + number, "the timestamp of " + number);
            check(java.util.Arrays.equals(record.value(), value(number)), "the value of " + number);
            check((record.key() == null) == (number % 2 == 0), "the key of " + number);
            String codec = new String(record.headers().lastHeader("codec").value());
            check(codec.equals(CODECS.get(number / COUNT)), "the header of " + number);
            number++;
        }
    }

    private static void positionsByTime(
            KafkaConsumer<byte[], byte[]> consumer, int count, long startMs) {
        for (int number : List.of(0, 1, 250, count - 1)) {
            OffsetAndTimestamp found =
                    consumer.offsetsForTimes(Map.of(partition, startMs + number)).get(partition);
            check(found.offset() == number, "time " + number + " is at " + found);
            check(found.timestamp() == startMs + number, "time " + number + " is " + found);
        }
        check(
                consumer.offsetsForTimes(Map.of(partition, startMs + count)).get(partition) == null,
                "there is nothing after the last");
        Collection<TopicPartition> asked = List.of(partition);
        check(consumer.beginningOffsets(asked).get(partition) == 0, "the beginning");
        check(consumer.endOffsets(asked).get(partition) == count, "the end");
    }

    private static void pausedAndResumed(KafkaConsumer<byte[], byte[]> consumer) {
        consumer.seek(partition, 7);
        consumer.pause(List.of(partition));
        check(consumer.poll(WAIT).isEmpty(), "a paused consumer reads");
        consumer.resume(List.of(partition));
        check(consumer.poll(Duration.ofSeconds(30)).iterator().next().offset() == 7, "resumed");
    }

    private static void soughtAgain(KafkaConsumer<byte[], byte[]> consumer, int count) {
        // The middle of a batch; whoever starts at its beginning loses or repeats.
        consumer.seek(partition, 333);
        check(read(consumer, count - 333).get(0).offset() == 333, "seek");
        consumer.seekToBeginning(List.of(partition));
        check(consumer.position(partition) == 0, "seekToBeginning");
        consumer.seekToEnd(List.of(partition));
        check(consumer.position(partition) == count, "seekToEnd");
    }

    private static void transactionsAreRefused() {
        Properties settings = settings();
        settings.put("transactional.id", "any");
        settings.put("max.block.ms", "20000");
        try (KafkaProducer<byte[], byte[]> producer =
                new KafkaProducer<>(
                        settings, new ByteArraySerializer(), new ByteArraySerializer())) {
            producer.initTransactions();
            throw new IllegalStateException("transactions began");
        } catch (org.apache.kafka.common.KafkaException error) {
            System.out.println("transactions\t" + error.getClass().getSimpleName());
        }
    }

    private static void newGroupProtocolIsRefused() {
        Properties settings = settings();
        settings.put("group.id", "any");
        settings.put("group.protocol", "consumer");
        try (KafkaConsumer<byte[], byte[]> consumer =
                new KafkaConsumer<>(
                        settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of(partition.topic()));
            long deadline = System.nanoTime() + Duration.ofSeconds(30).toNanos();
            while (System.nanoTime() < deadline) {
                consumer.poll(WAIT);
            }
            throw new IllegalStateException("group.protocol=consumer was not refused");
        } catch (UnsupportedVersionException error) {
            System.out.println("group.protocol\t" + error.getClass().getSimpleName());
        }
    }

    private static void check(boolean isTrue, String what) {
        if (!isTrue) {
            throw new IllegalStateException(what);
        }
    }
}
