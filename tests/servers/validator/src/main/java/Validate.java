import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;

import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.LinkedBlockingQueue;

/**
 * Reads one request a line from stdin and writes one answer a line to stdout, until stdin is closed.
 *
 * <pre>
 * {"number": 7, "version": "R4", "definitions": ["FOLDER"], "resource": "{...} or &lt;...&gt;", "profiles": ["http://..."]}
 * {"number": 7, "findings": [{"error": true, "location": "...", "id": "...", "message": "..."}]}
 * {"number": 7, "failure": "..."}
 * </pre>
 *
 * Each version with each set of definitions has a thread, which loads what it needs with its first request; so answers
 * come in any order.
 */
public final class Validate {
  private static final Gson GSON = new GsonBuilder().disableHtmlEscaping().serializeNulls().create();

  private Validate() {}

  public static void main(String[] arguments) throws Exception {
    PrintStream answers = new PrintStream(new FileOutputStream(FileDescriptor.out), false, StandardCharsets.UTF_8);
    System.setOut(System.err); // libraries that print must not come between the answers
    Map<JsonElement, EngineThread> threads = new HashMap<>();
    Map<String, Standard> standards = new ConcurrentHashMap<>();
    BufferedReader requests = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line; (line = requests.readLine()) != null; ) {
      JsonObject request = JsonParser.parseString(line).getAsJsonObject();
      JsonArray engine = new JsonArray();
      engine.add(request.get("version"));
      engine.addAll(request.getAsJsonArray("definitions"));
      threads.computeIfAbsent(engine, e -> new EngineThread(standards, answers)).requests.add(request);
    }
    Runtime.getRuntime().halt(0); // nobody waits for what is still under way
  }

  private static List<String> texts(JsonArray array) {
    List<String> texts = new ArrayList<>();
    array.forEach(text -> texts.add(text.getAsString()));
    return texts;
  }

  private static final class EngineThread extends Thread {
    final BlockingQueue<JsonObject> requests = new LinkedBlockingQueue<>();
    private final Map<String, Standard> standards;
    private final PrintStream answers;
    private Engine engine;

    EngineThread(Map<String, Standard> standards, PrintStream answers) {
      this.standards = standards;
      this.answers = answers;
      start();
    }

    @Override
    public void run() {
      while (true) {
        JsonObject answer = new JsonObject();
        try {
          JsonObject request = requests.take();
          answer.add("number", request.get("number"));
          if (engine == null) {
            List<String> folders = texts(request.getAsJsonArray("definitions"));
            Standard standard = standards.computeIfAbsent(request.get("version").getAsString(), Standard::new);
            engine = new Engine(standard, folders.stream().map(Path::of).toList());
          }
          List<String> profiles = texts(request.getAsJsonArray("profiles"));
          answer.add("findings", engine.check(request.get("resource").getAsString(), profiles));
        } catch (VirtualMachineError e) {
          e.printStackTrace();
          Runtime.getRuntime().halt(1);
        } catch (Throwable e) {
          answer.addProperty("failure", e.toString());
        }
        synchronized (answers) {
          answers.println(GSON.toJson(answer));
          answers.flush();
        }
      }
    }
  }
}
