package muse.peer;

import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import com.fasterxml.jackson.databind.JsonNode;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.Map;
import java.util.Set;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.io.EncoderFactory;
import org.apache.avro.util.Utf8;
import org.apache.kafka.streams.processor.api.FixedKeyProcessor;
import org.apache.kafka.streams.processor.api.FixedKeyProcessorContext;
import org.apache.kafka.streams.processor.api.FixedKeyRecord;
import org.apache.kafka.streams.processor.api.RecordMetadata;

/** One event in, one score record out; reader, record, buffers and tensor are reused from event to event. */
final class EventScorer implements FixedKeyProcessor<byte[], byte[], byte[]> {
    private static final int PREFIX = 10;

    private final GenericDatumReader<GenericRecord> reader;
    private final int[] positions;
    private final int id;
    private final int time;
    private final byte[] prefix;
    private final OrtSession session;
    private final FloatBuffer row;
    private final Map<String, OnnxTensor> input;
    private final Set<String> output;
    private final int positive;
    private final double beta;
    private final double[] x;
    private final double[] y;
    private final String tenant;
    private final String predictor;
    private final int predictorVersion;
    private final ByteArrayOutputStream bytes = new ByteArrayOutputStream(256);
    private GenericRecord event;
    private BinaryDecoder decoder;
    private BinaryEncoder encoder;
    private FixedKeyProcessorContext<byte[], byte[]> context;

    EventScorer(JsonNode settings) {
        try {
            Schema schema = new Schema.Parser().parse(Path.of(settings.get("event_schema").asText()).toFile());
            reader = new GenericDatumReader<>(schema);
            positions = new int[settings.get("features").size()];
            for (int at = 0; at < positions.length; at++) {
                positions[at] = schema.getField(settings.get("features").get(at).asText()).pos();
            }
            id = schema.getField("transaction_id").pos();
            time = schema.getField("event_time").pos();
            prefix = HexFormat.of().parseHex(settings.get("score_prefix").asText());
            OrtEnvironment environment = OrtEnvironment.getEnvironment();
            OrtSession.SessionOptions options = new OrtSession.SessionOptions();
            options.setIntraOpNumThreads(1);
            options.setInterOpNumThreads(1);
            session = environment.createSession(settings.get("model").asText(), options);
            row = ByteBuffer.allocateDirect(4 * positions.length).order(ByteOrder.nativeOrder()).asFloatBuffer();
            // a tensor over a direct buffer reads what the buffer holds when the model runs
            OnnxTensor tensor = OnnxTensor.createTensor(environment, row, new long[] {1, positions.length});
            input = Map.of(settings.get("input").asText(), tensor);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        } catch (OrtException error) {
            throw new IllegalStateException(error);
        }
        output = Set.of(settings.get("output").asText());
        positive = settings.get("positive").asInt();
        beta = settings.get("beta").asDouble();
        x = numbers(settings.get("map").get("x"));
        y = numbers(settings.get("map").get("y"));
        tenant = settings.get("tenant").asText();
        predictor = settings.get("predictor").asText();
        predictorVersion = settings.get("predictor_version").asInt();
    }

    @Override
    public void init(FixedKeyProcessorContext<byte[], byte[]> context) {
        this.context = context;
    }

    @Override
    public void process(FixedKeyRecord<byte[], byte[]> record) {
        byte[] value = record.value();
        try {
            decoder = DecoderFactory.get().binaryDecoder(value, PREFIX, value.length - PREFIX, decoder);
            event = reader.read(event, decoder);
            for (int at = 0; at < positions.length; at++) {
                row.put(at, (float) (double) (Double) event.get(positions[at]));
            }
            double p;
            try (OrtSession.Result answer = session.run(input, output)) {
                p = ((OnnxTensor) answer.get(0)).getFloatBuffer().get(positive);
            }
            double aggregate = 1.0 / (1.0 + (1.0 - p) / p / beta);
            context.forward(record.withValue(encoded(mapped(aggregate), aggregate)));
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        } catch (OrtException error) {
            throw new IllegalStateException(error);
        }
    }

    private byte[] encoded(double score, double aggregate) throws IOException {
        RecordMetadata place = context.recordMetadata().orElseThrow();
        bytes.reset();
        bytes.write(prefix);
        encoder = EncoderFactory.get().directBinaryEncoder(bytes, encoder);
        encoder.writeString((Utf8) event.get(id));
        encoder.writeString(tenant);
        encoder.writeString(predictor);
        encoder.writeInt(predictorVersion);
        encoder.writeDouble(score);
        encoder.writeDouble(aggregate);
        encoder.writeLong(1);
        encoder.writeLong((Long) event.get(time));
        encoder.writeLong(System.currentTimeMillis());
        encoder.writeString(place.topic());
        encoder.writeInt(place.partition());
        encoder.writeLong(place.offset());
        encoder.writeLong(1);
        encoder.flush();
        return bytes.toByteArray();
    }

    private double mapped(double value) {
        int found = Arrays.binarySearch(x, value);
        if (found >= 0) {
            return y[found];
        }
        int above = -found - 1;
        if (above == 0 || above == x.length) {
            return y[above == 0 ? 0 : x.length - 1];
        }
        double share = (value - x[above - 1]) / (x[above] - x[above - 1]);
        return y[above - 1] + share * (y[above] - y[above - 1]);
    }

    private static double[] numbers(JsonNode list) {
        double[] found = new double[list.size()];
        for (int at = 0; at < found.length; at++) {
            found[at] = list.get(at).asDouble();
        }
        return found;
    }
}
