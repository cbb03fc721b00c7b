package emulator.clients;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.cloud.storage.Blob;
import com.google.cloud.storage.BlobId;
import com.google.cloud.storage.Storage;
import com.google.cloud.storage.Storage.BlobListOption;
import com.google.gson.Gson;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.stream.Collectors;

/** The lines that a job wrote, read with the Cloud Storage client, and what they must say. */
final class Predictions {
  private static final Gson GSON = new Gson();

  record Line(Instance instance, List<Prediction> prediction) {
    Set<String> labels() {
      return prediction.stream().map(Prediction::displayName).collect(Collectors.toSet());
    }
  }

  record Instance(String content, String mimeType) {}

  record Prediction(
      String displayName,
      String timeSegmentStart,
      String timeSegmentEnd,
      double confidence,
      List<Frame> frames) {}

  record Frame(String timeOffset, double xMin, double xMax) {}

  private Predictions() {}

  /** Reads every predictions file of a job's output directory. */
  static List<Line> read(String directory) throws Exception {
    BlobId folder = BlobId.fromGsUtilUri(directory);
    List<Line> lines = new ArrayList<>();
    try (Storage storage = Emulator.storage()) {
      for (Blob blob :
          storage
              .list(folder.getBucket(), BlobListOption.prefix(folder.getName() + "/"))
              .iterateAll()) {
        assertTrue(blob.getName().contains("/predictions_"), blob.getName());
        new String(blob.getContent(), StandardCharsets.UTF_8)
            .lines()
            .forEach(line -> lines.add(GSON.fromJson(line, Line.class)));
      }
    }
    return lines;
  }

  /** Checks what the documentation's clip of a cat and a dog must give at a threshold. */
  static void assertTracks(List<Line> lines, double threshold) {
    assertEquals(1, lines.size());
    Line line = lines.get(0);
    assertEquals(Emulator.inBucket("clips/pets.mp4"), line.instance().content());
    assertTrue(line.labels().containsAll(Set.of("cat", "dog")), line::toString);
    for (Prediction track : line.prediction()) {
      assertTrue(track.confidence() >= threshold, track::toString);
      assertFalse(track.frames().isEmpty(), track::toString);
      assertEquals(track.timeSegmentStart(), track.frames().get(0).timeOffset());
      assertEquals(
          track.timeSegmentEnd(), track.frames().get(track.frames().size() - 1).timeOffset());
      assertTrue(track.frames().stream().allMatch(frame -> frame.xMin() < frame.xMax()));
    }
  }

  /** Checks what the documentation's clip of a swing and a jump must give. */
  static void assertActions(List<Line> lines) {
    assertEquals(1, lines.size());
    Line line = lines.get(0);
    assertEquals(Emulator.inBucket("clips/figure.mp4"), line.instance().content());
    assertTrue(line.labels().containsAll(Set.of("swing", "jump")), line::toString);
    for (Prediction action : line.prediction()) {
      assertEquals(action.timeSegmentStart(), action.timeSegmentEnd());
      assertNull(action.frames());
    }
  }
}
