import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.context.support.DefaultProfileValidationSupport;
import ca.uhn.fhir.context.support.IValidationSupport.IssueSeverity;
import ca.uhn.fhir.validation.FhirValidator;
import ca.uhn.fhir.validation.ResultSeverityEnum;
import ca.uhn.fhir.validation.SingleValidationMessage;
import ca.uhn.fhir.validation.ValidationOptions;
import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import org.hl7.fhir.common.hapi.validation.support.CommonCodeSystemsTerminologyService;
import org.hl7.fhir.common.hapi.validation.support.InMemoryTerminologyServerValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.PrePopulatedValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.SnapshotGeneratingValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.UnknownCodeSystemWarningValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.ValidationSupportChain;
import org.hl7.fhir.common.hapi.validation.validator.FhirInstanceValidator;
import org.hl7.fhir.r5.utils.validation.constants.BestPracticeWarningLevel;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;

/** The validator of one FHIR version; used by one thread. */
final class Engine {
  private final FhirContext context;
  private final FhirValidator validator;
  private final boolean old;

  /** @param definitions folder with StructureDefinitions and ValueSets of this version, at any depth; may be missing */
  Engine(String version, Path definitions) throws IOException {
    old = version.equals("DSTU2") || version.equals("1.4.0");
    context = switch (version) {
      case "DSTU2" -> FhirContext.forDstu2Hl7Org();
      case "1.4.0" -> FhirContext.forDstu2_1();
      case "STU3" -> FhirContext.forDstu3();
      case "R4" -> FhirContext.forR4();
      case "R4B" -> FhirContext.forR4B();
      case "R5" -> FhirContext.forR5();
      default -> throw new IllegalArgumentException("there is no official validator for " + version);
    };
    PrePopulatedValidationSupport ours = new PrePopulatedValidationSupport(context);
    if (Files.isDirectory(definitions)) {
      try (Stream<Path> files = Files.walk(definitions)) {
        for (Path file : files.filter(path -> path.toString().endsWith(".json")).sorted().toList()) {
          ours.addResource(context.newJsonParser().parseResource(Files.readString(file)));
        }
      }
    }
    DefaultProfileValidationSupport base = new DefaultProfileValidationSupport(context);
    if (version.equals("1.4.0")) {
      Patch21.apply(context, base, ours);
    }
    ExternalCodes external = new ExternalCodes(context);
    UnknownCodeSystemWarningValidationSupport unknown = new UnknownCodeSystemWarningValidationSupport(context);
    unknown.setNonExistentCodeSystemSeverity(IssueSeverity.INFORMATION);
    FhirInstanceValidator module = new FhirInstanceValidator(old
        ? new LiftedChain(ours, external, base)
        : new ValidationSupportChain(
            ours,
            external,
            base,
            new CommonCodeSystemsTerminologyService(context),
            new InMemoryTerminologyServerValidationSupport(context),
            new SnapshotGeneratingValidationSupport(context),
            unknown));
    module.setAnyExtensionsAllowed(true);
    module.setErrorForUnknownProfiles(true);
    module.setNoExtensibleWarnings(false);
    module.setAssumeValidRestReferences(true);
    module.setBestPracticeWarningLevel(BestPracticeWarningLevel.Ignore);
    validator = context.newValidator();
    validator.setValidateAgainstStandardSchema(false);
    validator.setValidateAgainstStandardSchematron(false);
    validator.registerValidatorModule(module);
  }

  /** Errors and warnings in a resource, JSON or XML; what is only information is left out. */
  JsonArray check(String resource, List<String> profiles) {
    ValidationOptions options = new ValidationOptions();
    profiles.forEach(options::addProfile);
    JsonArray found = new JsonArray();
    for (SingleValidationMessage message : validator.validateWithResult(resource, options).getMessages()) {
      ResultSeverityEnum severity = message.getSeverity();
      if (old && "XHTML_XHTML_NS_InValid".equals(message.getMessageId()) && message.getMessage().contains("'null'")) {
        severity = ResultSeverityEnum.WARNING; // HL7's own examples of DSTU2 and 1.4.0 leave the namespace out
      }
      if (severity == ResultSeverityEnum.INFORMATION) {
        continue;
      }
      JsonObject finding = new JsonObject();
      finding.addProperty("error", severity != ResultSeverityEnum.WARNING);
      finding.addProperty("location", message.getLocationString());
      finding.addProperty("id", message.getMessageId());
      finding.addProperty("message", message.getMessage());
      found.add(finding);
    }
    return found;
  }
}
