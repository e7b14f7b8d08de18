import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.UUID;
import org.apache.avro.Conversions;
import org.apache.avro.Schema;
import org.apache.avro.SchemaNormalization;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.generic.GenericFixed;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.io.EncoderFactory;
import org.apache.avro.message.BinaryMessageEncoder;

/**
 * Apache Avro, asked over stdin and stdout, one JSON object a line.
 *
 * {"writer": text, "reader": text, "path": [names], "seed": n, "count": n}: makes random records of the writer, through
 * the conversions of logical types; answers with the framed bytes of each, and what the reader sees at the path.
 * {"files": [texts]}: parses schemas in order, each knowing those before it; answers with the last one's fingerprint.
 * {"schema": text, "events": [objects as Avro's JSON encoding has them]}: answers with the framed bytes of each.
 * {"default": JSON}: answers with the text of a schema whose field x is a double with that default, unchecked.
 */
public final class AvroPeer {
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final GenericData DATA = new GenericData();

  static {
    DATA.addLogicalTypeConversion(new Conversions.DecimalConversion());
    DATA.addLogicalTypeConversion(new Conversions.BigDecimalConversion());
    DATA.addLogicalTypeConversion(new Conversions.UUIDConversion());
  }

  public static void main(String[] arguments) throws Exception {
    PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = in.readLine(); line != null; line = in.readLine()) {
      JsonNode asked = JSON.readTree(line);
      ObjectNode answer = JSON.createObjectNode();
      try {
        if (asked.has("files")) {
          parse(asked, answer);
        } else if (asked.has("events")) {
          encode(asked, answer);
        } else if (asked.has("default")) {
          JsonNode given = asked.get("default");
          String field = "{\"name\":\"x\",\"type\":\"double\",\"default\":" + given + "}";
          String text = "{\"type\":\"record\",\"name\":\"Event\",\"fields\":[{\"name\":\"id\",\"type\":\"string\"}," + field + "]}";
          answer.put("text", new Schema.Parser().setValidateDefaults(false).parse(text).toString());
        } else {
          write(asked, answer);
        }
      } catch (Exception error) {
        answer.put("error", error.toString());
      }
      out.println(JSON.writeValueAsString(answer));
    }
  }

  private static void encode(JsonNode asked, ObjectNode answer) throws Exception {
    Schema schema = new Schema.Parser().parse(asked.get("schema").asText());
    BinaryMessageEncoder<Object> framed = new BinaryMessageEncoder<>(DATA, schema);
    GenericDatumReader<Object> reader = new GenericDatumReader<>(schema);
    ArrayNode values = answer.putArray("values");
    for (JsonNode event : asked.get("events")) {
      ByteBuffer message = framed.encode(reader.read(null, DecoderFactory.get().jsonDecoder(schema, event.toString())));
      byte[] bytes = new byte[message.remaining()];
      message.get(bytes);
      values.add(HexFormat.of().formatHex(bytes));
    }
  }

  private static void parse(JsonNode asked, ObjectNode answer) {
    Schema.Parser parser = new Schema.Parser();
    Schema last = null;
    for (JsonNode text : asked.get("files")) {
      last = parser.parse(text.asText());
    }
    answer.put("text", last.toString());
    answer.put("fingerprint", fingerprint(last));
  }

  private static String fingerprint(Schema schema) {
    ByteBuffer bytes = ByteBuffer.allocate(8).order(java.nio.ByteOrder.LITTLE_ENDIAN);
    bytes.putLong(SchemaNormalization.parsingFingerprint64(schema));
    return HexFormat.of().formatHex(bytes.array());
  }

  private static void write(JsonNode asked, ObjectNode answer) throws Exception {
    Schema writer = new Schema.Parser().parse(asked.get("writer").asText());
    Schema reader = new Schema.Parser().parse(asked.get("reader").asText());
    Random random = new Random(asked.get("seed").asLong());
    answer.put("fingerprint", fingerprint(writer));
    ArrayNode records = answer.putArray("records");
    BinaryMessageEncoder<Object> framed = new BinaryMessageEncoder<>(DATA, writer);
    for (int number = 0; number < asked.get("count").asInt(); number++) {
      Object record = draw(writer, random);
      ObjectNode one = records.addObject();
      ByteBuffer message = framed.encode(record);
      byte[] plain = new byte[message.remaining()];
      message.get(plain);
      byte[] bytes = number % 2 == 0 ? plain : blocking(writer, record, plain);
      one.put("hex", HexFormat.of().formatHex(bytes));
      read(writer, reader, asked.get("path"), bytes, one);
    }
  }

  /** The same record with the sizes of its blocks before lists and maps. */
  private static byte[] blocking(Schema writer, Object record, byte[] plain) throws Exception {
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    out.write(plain, 0, 10);
    BinaryEncoder encoder = new EncoderFactory().configureBlockSize(64).blockingBinaryEncoder(out, null);
    new GenericDatumWriter<>(writer, DATA).write(record, encoder);
    encoder.flush();
    return out.toByteArray();
  }

  private static void read(Schema writer, Schema reader, JsonNode path, byte[] bytes, ObjectNode one) {
    Object value;
    try {
      var decoder = DecoderFactory.get().binaryDecoder(bytes, 10, bytes.length - 10, null);
      value = new GenericDatumReader<Object>(writer, reader, DATA).read(null, decoder);
    } catch (Exception error) {
      one.put("refused", error.toString());
      return;
    }
    for (JsonNode name : path) {
      value = value == null ? null : ((GenericRecord) value).get(name.asText());
    }
    show(value, one);
  }

  private static void show(Object value, ObjectNode one) {
    if (value == null) {
      one.put("kind", "null");
      return;
    }
    one.put("kind", value.getClass().getSimpleName());
    if (value instanceof ByteBuffer) {
      ByteBuffer data = ((ByteBuffer) value).duplicate();
      byte[] bytes = new byte[data.remaining()];
      data.get(bytes);
      one.put("text", HexFormat.of().formatHex(bytes));
    } else if (value instanceof GenericFixed) {
      one.put("text", HexFormat.of().formatHex(((GenericFixed) value).bytes()));
    } else if (value instanceof BigDecimal) {
      one.put("text", ((BigDecimal) value).toPlainString());
    } else {
      one.put("text", value.toString());
    }
  }

  private static Object draw(Schema schema, Random random) {
    if (schema.getLogicalType() != null) {
      switch (schema.getLogicalType().getName()) {
        case "uuid":
          return new UUID(random.nextLong(), random.nextLong());
        case "decimal":
          int scale = ((org.apache.avro.LogicalTypes.Decimal) schema.getLogicalType()).getScale();
          return new BigDecimal(BigInteger.valueOf(random.nextInt(2_000_000) - 1_000_000), scale);
        case "big-decimal":
          return new BigDecimal(BigInteger.valueOf(random.nextLong()), random.nextInt(20) - 5);
        default:
          break;
      }
    }
    switch (schema.getType()) {
      case RECORD:
        GenericData.Record record = new GenericData.Record(schema);
        for (Schema.Field field : schema.getFields()) {
          record.put(field.pos(), draw(field.schema(), random));
        }
        return record;
      case UNION:
        return draw(schema.getTypes().get(random.nextInt(schema.getTypes().size())), random);
      case ARRAY:
        List<Object> items = new ArrayList<>();
        for (int left = random.nextInt(20); left > 0; left--) {
          items.add(draw(schema.getElementType(), random));
        }
        return items;
      case MAP:
        Map<String, Object> entries = new HashMap<>();
        for (int left = random.nextInt(20); left > 0; left--) {
          entries.put("k" + left, draw(schema.getValueType(), random));
        }
        return entries;
      default:
        return leaf(schema, random);
    }
  }

  private static Object leaf(Schema schema, Random random) {
    switch (schema.getType()) {
      case ENUM:
        List<String> symbols = schema.getEnumSymbols();
        return new GenericData.EnumSymbol(schema, symbols.get(random.nextInt(symbols.size())));
      case FIXED:
        byte[] fixed = new byte[schema.getFixedSize()];
        random.nextBytes(fixed);
        return new GenericData.Fixed(schema, fixed);
      case STRING:
        return List.of("", "a", "VISA", "é€\uD83D\uDE00").get(random.nextInt(4));
      case BYTES:
        byte[] bytes = new byte[random.nextInt(5)];
        for (int at = 0; at < bytes.length; at++) {
          bytes[at] = (byte) (32 + random.nextInt(90)); // Java reads bytes as a string whatever they are
        }
        return ByteBuffer.wrap(bytes);
      case INT:
        return List.of(0, -1, 77, Integer.MAX_VALUE, Integer.MIN_VALUE).get(random.nextInt(5));
      case LONG:
        return List.of(0L, -1L, 1L << 40, (1L << 53) + 1, Long.MAX_VALUE, Long.MIN_VALUE).get(random.nextInt(6));
      case FLOAT:
        return List.of(0f, -0f, 0.1f, -1.5e30f, Float.NaN, Float.POSITIVE_INFINITY).get(random.nextInt(6));
      case DOUBLE:
        return List.of(0.0, -0.0, 0.1, -1.5e300, Double.NaN, Double.NEGATIVE_INFINITY).get(random.nextInt(6));
      case BOOLEAN:
        return random.nextBoolean();
      default:
        return null;
    }
  }
}
