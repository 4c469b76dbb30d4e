import ca.uhn.fhir.context.FhirContext;
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
import org.hl7.fhir.common.hapi.validation.validator.FhirDefaultPolicyAdvisor;
import org.hl7.fhir.common.hapi.validation.validator.FhirInstanceValidator;
import org.hl7.fhir.r5.utils.validation.constants.BestPracticeWarningLevel;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;

/** The validator of one FHIR version with one set of definitions; used by one thread. */
final class Engine {
  private static final String NO_PROFILE_FITS = "Reference_REF_CantMatchChoice";
  private static final String WHY_NOT = "Details_for__matching_against_Profile_";

  private final FhirValidator validator;
  private final boolean old;

  /** @param folders with StructureDefinitions, ValueSets and CodeSystems of this version, at any depth */
  Engine(Standard standard, List<Path> folders) throws IOException {
    old = standard.old;
    FhirContext context = standard.context;
    PrePopulatedValidationSupport added = new PrePopulatedValidationSupport(context);
    for (Path folder : folders) {
      try (Stream<Path> files = Files.walk(folder)) {
        for (Path file : files.filter(path -> path.toString().endsWith(".json")).sorted().toList()) {
          added.addResource(context.newJsonParser().parseResource(Files.readString(file)));
        }
      }
    }
    ExternalCodes external = new ExternalCodes(context);
    UnknownCodeSystemWarningValidationSupport unknown = new UnknownCodeSystemWarningValidationSupport(context);
    unknown.setNonExistentCodeSystemSeverity(IssueSeverity.INFORMATION);
    FhirInstanceValidator module = new FhirInstanceValidator(old
        ? new LiftedChain(added, standard.patches, external, standard.definitions)
        : new ValidationSupportChain(
            added,
            external,
            standard.definitions,
            new CommonCodeSystemsTerminologyService(context),
            new InMemoryTerminologyServerValidationSupport(context),
            new SnapshotGeneratingValidationSupport(context),
            unknown));
    module.setAnyExtensionsAllowed(true);
    module.setErrorForUnknownProfiles(true);
    module.setNoExtensibleWarnings(false);
    module.setAssumeValidRestReferences(true);
    module.setBestPracticeWarningLevel(BestPracticeWarningLevel.Ignore);
    module.setValidatorPolicyAdvisor(new EveryMessage());
    validator = context.newValidator();
    validator.setValidateAgainstStandardSchema(false);
    validator.setValidateAgainstStandardSchematron(false);
    validator.registerValidatorModule(module);
  }

  /** HAPI's own hides that what a reference leads to fits none of the profiles that the element allows. */
  private static final class EveryMessage extends FhirDefaultPolicyAdvisor {
    @Override
    public boolean isSuppressMessageId(String path, String messageId) {
      return false;
    }
  }

  /** Errors and warnings in a resource, JSON or XML; what is only information is left out. */
  JsonArray check(String resource, List<String> profiles) {
    ValidationOptions options = new ValidationOptions();
    profiles.forEach(options::addProfile);
    List<SingleValidationMessage> messages = validator.validateWithResult(resource, options).getMessages();
    Map<String, String> whyNot = whyNoProfileFits(messages);
    JsonArray found = new JsonArray();
    for (SingleValidationMessage message : messages) {
      ResultSeverityEnum severity = message.getSeverity();
      if (old && "XHTML_XHTML_NS_InValid".equals(message.getMessageId()) && message.getMessage().contains("'null'")) {
        severity = ResultSeverityEnum.WARNING; // HL7's own examples of DSTU2 and 1.4.0 leave the namespace out
      }
      if (severity == ResultSeverityEnum.INFORMATION) {
        continue;
      }
      boolean target = NO_PROFILE_FITS.equals(message.getMessageId());
      String why = target ? whyNot.getOrDefault(message.getLocationString(), "") : "";
      JsonObject finding = new JsonObject();
      finding.addProperty("error", severity != ResultSeverityEnum.WARNING);
      finding.addProperty("location", message.getLocationString());
      finding.addProperty("id", message.getMessageId());
      finding.addProperty("message", message.getMessage() + why);
      found.add(finding);
    }
    return found;
  }

  /** Location of a reference -> what is wrong with its target, which the validator says as information. */
  private static Map<String, String> whyNoProfileFits(List<SingleValidationMessage> messages) {
    Map<String, String> reasons = new HashMap<>();
    for (SingleValidationMessage message : messages) {
      if (WHY_NOT.equals(message.getMessageId()) && message.hasSliceMessages()) {
        String reason = "; " + String.join("; ", message.getSliceMessages());
        reasons.merge(message.getLocationString(), reason, String::concat);
      }
    }
    return reasons;
  }
}
