// The hop of a scenario as a Kafka Streams application: it copies each message of a topic to the
// same partition of another one. msgbench compiles it against the jars of the Kafka that it starts.
//
// It prints "listening on PORT" and waits on 127.0.0.1 for one connection for each topic. There it
// reads settings of Kafka Streams, one "key=value" a line, with input.topic and output.topic among
// them, up to an empty line. It answers "running" when every partition of the input has a task that
// runs, or "failed: " and why. It copies until the connection is closed.

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintWriter;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.processor.StreamPartitioner;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;

public final class StreamsHop {
    // The partition of the message that a thread copies: a partitioner is not told.
    private static final ThreadLocal<Integer> PARTITION = ThreadLocal.withInitial(() -> 0);
    private static final Duration CLOSE = Duration.ofSeconds(2);
    private static final long LOOK_MS = 10;

    public static void main(String[] args) throws IOException {
        try (ServerSocket server = new ServerSocket(0, 16, InetAddress.getLoopbackAddress())) {
            System.out.println("listening on " + server.getLocalPort());
            while (true) {
                Socket connection = server.accept();
                new Thread(() -> serve(connection), "hop").start();
            }
        }
    }

    private static void serve(Socket connection) {
        try (connection) {
            var in = new BufferedReader(new InputStreamReader(connection.getInputStream(), StandardCharsets.UTF_8));
            var out = new PrintWriter(connection.getOutputStream(), true, StandardCharsets.UTF_8);
            var settings = new Properties();
            for (String line = in.readLine(); line != null && !line.isEmpty(); line = in.readLine()) {
                int at = line.indexOf('=');
                settings.setProperty(line.substring(0, at), line.substring(at + 1));
            }
            hop(settings, in, out);
        } catch (IOException e) {
            System.out.println("the connection ended: " + e);
        }
    }

    private static void hop(Properties settings, BufferedReader in, PrintWriter out) {
        int partitions = Integer.parseInt((String) settings.remove("input.partitions"));
        var failure = new AtomicReference<Throwable>();
        KafkaStreams streams;
        try {
            streams = new KafkaStreams(topology(settings), settings);
        } catch (RuntimeException | LinkageError e) {
            out.println("failed: " + line(e));
            return;
        }
        // Not its resource: that would be closed first, and without a bound.
        try {
            streams.setUncaughtExceptionHandler(e -> {
                e.printStackTrace();
                if (failure.compareAndSet(null, e)) {
                    out.println("failed: " + line(e));
                }
                return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
            });
            streams.start();
            while (failure.get() == null && tasks(streams) < partitions) {
                Thread.sleep(LOOK_MS);
            }
            if (failure.get() == null) {
                out.println("running");
                // Nothing more is said to it: this ends with the connection.
                while (in.read() >= 0) { }
            }
        } catch (IOException | InterruptedException | RuntimeException | LinkageError e) {
            out.println("failed: " + line(e));
        } finally {
            streams.close(CLOSE);
        }
    }

    private static int tasks(KafkaStreams streams) {
        if (streams.state() != KafkaStreams.State.RUNNING) {
            return 0;
        }
        return streams.metadataForLocalThreads().stream().mapToInt(thread -> thread.activeTasks().size()).sum();
    }

    private static String line(Throwable e) {
        Throwable deepest = e;
        while (deepest.getCause() != null) {
            deepest = deepest.getCause();
        }
        return deepest.toString().replace('\n', ' ');
    }

    private static Topology topology(Properties settings) {
        String input = (String) settings.remove("input.topic");
        String output = (String) settings.remove("output.topic");
        var bytes = new ByteArrayDeserializer();
        @SuppressWarnings("removal")
        StreamPartitioner<byte[], byte[]> same = (topic, key, value, partitions) -> Optional.of(Set.of(PARTITION.get()));
        return new Topology()
            .addSource("input", bytes, bytes, input)
            .addProcessor("copy", Copy::new, "input")
            .addSink("output", output, new ByteArraySerializer(), new ByteArraySerializer(), same, "copy");
    }

    private static final class Copy implements Processor<byte[], byte[], byte[], byte[]> {
        private ProcessorContext<byte[], byte[]> context;

        @Override
        public void init(ProcessorContext<byte[], byte[]> context) {
            this.context = context;
        }

        @Override
        public void process(Record<byte[], byte[]> message) {
            PARTITION.set(context.recordMetadata().map(from -> from.partition()).orElse(0));
            context.forward(message);
        }
    }
}
