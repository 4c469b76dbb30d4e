import ca.uhn.fhir.batch2.jobs.config.Batch2JobsConfig;
import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.context.FhirVersionEnum;
import ca.uhn.fhir.context.support.IValidationSupport;
import ca.uhn.fhir.interceptor.api.Hook;
import ca.uhn.fhir.interceptor.api.IInterceptorService;
import ca.uhn.fhir.interceptor.api.Pointcut;
import ca.uhn.fhir.jpa.api.config.JpaStorageSettings;
import ca.uhn.fhir.jpa.api.config.ThreadPoolFactoryConfig;
import ca.uhn.fhir.jpa.api.dao.IFhirSystemDao;
import ca.uhn.fhir.jpa.batch2.JpaBatch2Config;
import ca.uhn.fhir.jpa.config.HapiJpaConfig;
import ca.uhn.fhir.jpa.config.JpaDstu2Config;
import ca.uhn.fhir.jpa.config.dstu3.JpaDstu3Config;
import ca.uhn.fhir.jpa.config.r4.JpaR4Config;
import ca.uhn.fhir.jpa.config.r5.JpaR5Config;
import ca.uhn.fhir.jpa.config.util.HapiEntityManagerFactoryUtil;
import ca.uhn.fhir.jpa.model.config.PartitionSettings;
import ca.uhn.fhir.jpa.model.config.SubscriptionSettings;
import ca.uhn.fhir.jpa.model.dialect.HapiFhirH2Dialect;
import ca.uhn.fhir.jpa.provider.IJpaSystemProvider;
import ca.uhn.fhir.jpa.provider.JpaCapabilityStatementProvider;
import ca.uhn.fhir.jpa.search.DatabaseBackedPagingProvider;
import ca.uhn.fhir.jpa.subscription.channel.config.SubscriptionChannelConfig;
import ca.uhn.fhir.jpa.subscription.submit.config.SubscriptionSubmitterConfig;
import ca.uhn.fhir.parser.LenientErrorHandler;
import ca.uhn.fhir.parser.StrictErrorHandler;
import ca.uhn.fhir.rest.api.EncodingEnum;
import ca.uhn.fhir.rest.api.server.RequestDetails;
import ca.uhn.fhir.rest.server.HardcodedServerAddressStrategy;
import ca.uhn.fhir.rest.server.RestfulServer;
import ca.uhn.fhir.rest.server.interceptor.RequestValidatingInterceptor;
import ca.uhn.fhir.rest.server.provider.ResourceProviderFactory;
import ca.uhn.fhir.rest.server.util.ISearchParamRegistry;
import ca.uhn.fhir.validation.IInstanceValidatorModule;
import ca.uhn.fhir.validation.ResultSeverityEnum;
import jakarta.persistence.EntityManagerFactory;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import javax.sql.DataSource;
import org.apache.commons.dbcp2.BasicDataSource;
import org.eclipse.jetty.ee10.servlet.ServletContextHandler;
import org.eclipse.jetty.ee10.servlet.ServletHolder;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import org.springframework.beans.factory.config.ConfigurableListableBeanFactory;
import org.springframework.context.annotation.AnnotationConfigApplicationContext;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.context.annotation.Import;
import org.springframework.orm.jpa.JpaTransactionManager;
import org.springframework.orm.jpa.LocalContainerEntityManagerFactoryBean;
import org.springframework.transaction.annotation.EnableTransactionManagement;

/**
 * A throw-away HAPI FHIR JPA server on 127.0.0.1, data in an in-memory H2 database.
 * Usage: HapiServer PORT [r4|r5|dstu3|dstu2] [--warm-up]; prints "READY http://127.0.0.1:PORT/fhir ..." when it answers.
 * PORT 0 lets the system choose a free port. With --warm-up it answers a few requests of its own and ends.
 */
public class HapiServer {

    /** Settings come from the environment, so that a test can start several kinds of server. */
    static boolean flag(String name, boolean otherwise) {
        String value = System.getenv(name);
        return value == null || value.isEmpty() ? otherwise : value.equals("1") || value.equalsIgnoreCase("true");
    }

    /** Where requests are validated; the data are the same. */
    static final String VALIDATING = "/validating";

    static final Map<String, Class<?>> VERSIONS = Map.of(
            "r4", JpaR4Config.class, "r5", JpaR5Config.class,
            "dstu3", JpaDstu3Config.class, "dstu2", JpaDstu2Config.class);

    public static void main(String[] args) throws Exception {
        long began = System.currentTimeMillis();
        int port = Integer.parseInt(args[0]);
        String version = args.length > 1 ? args[1].toLowerCase() : "r4";
        Class<?> versionConfig = VERSIONS.get(version);
        if (versionConfig == null) {
            System.err.println("unknown FHIR version " + version + "; one of " + VERSIONS.keySet());
            System.exit(2);
        }

        AnnotationConfigApplicationContext spring = new AnnotationConfigApplicationContext();
        spring.register(Wiring.class, versionConfig);
        spring.refresh();
        RestfulServer servlet = fhirServlet(spring);

        Server jetty = new Server();
        ServerConnector connector = new ServerConnector(jetty);
        connector.setHost("127.0.0.1");
        connector.setPort(port);
        connector.open();
        int bound = connector.getLocalPort();
        String base = "http://127.0.0.1:" + bound + "/fhir";
        servlet.setServerAddressStrategy(new HardcodedServerAddressStrategy(base));
        jetty.addConnector(connector);
        ServletContextHandler root = new ServletContextHandler("/");
        ServletHolder holder = new ServletHolder(servlet);
        holder.setInitOrder(1);
        root.addServlet(holder, "/fhir/*");
        root.addServlet(holder, VALIDATING + "/*");
        jetty.setHandler(root);
        jetty.start();
        System.out.println("READY " + base + " " + version + " "
                + (System.currentTimeMillis() - began) + " ms, pid " + ProcessHandle.current().pid());
        if (args.length > 2 && args[2].equals("--warm-up")) {
            warmUp(base);
            System.exit(0);
        }
        if (flag("HAPI_EXIT_WITH_STDIN", false)) {
            endWithStdin();
        }
        jetty.join();
    }

    /** Loads the classes that requests need, so that a class-data archive written at exit holds them too. */
    static void warmUp(String base) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        HttpRequest.BodyPublisher patient = HttpRequest.BodyPublishers.ofString("{\"resourceType\":\"Patient\",\"id\":\"p\"}");
        for (HttpRequest request : List.of(
                HttpRequest.newBuilder(URI.create(base + "/metadata")).build(),
                HttpRequest.newBuilder(URI.create(base + "/Patient/p"))
                        .header("Content-Type", "application/json").PUT(patient).build(),
                HttpRequest.newBuilder(URI.create(base + "/Patient?identifier=a%7Cb")).build())) {
            int status = client.send(request, HttpResponse.BodyHandlers.ofString()).statusCode();
            if (status >= 300) {
                throw new IllegalStateException(request.method() + " " + request.uri() + " answers " + status);
            }
        }
    }

    /** Whoever started the server holds the other end of the pipe: when it dies, however it dies, so does the server. */
    static void endWithStdin() {
        Thread watch = new Thread(() -> {
            try {
                while (System.in.read() >= 0) { }
            } catch (IOException gone) {
                // as good as the end
            }
            Runtime.getRuntime().halt(0);
        }, "stdin");
        watch.setDaemon(true);
        watch.start();
    }

    static RestfulServer fhirServlet(AnnotationConfigApplicationContext spring) {
        FhirContext context = spring.getBean(FhirContext.class);
        RestfulServer server = new RestfulServer(context);
        server.setInterceptorService(spring.getBean(IInterceptorService.class));
        server.registerProviders(spring.getBean(ResourceProviderFactory.class).createProviders());
        server.registerProvider(spring.getBean(IJpaSystemProvider.class));
        server.setPagingProvider(spring.getBean(DatabaseBackedPagingProvider.class));
        server.setDefaultResponseEncoding(EncodingEnum.JSON);
        server.setDefaultPrettyPrint(false);
        FhirVersionEnum version = context.getVersion().getVersion();
        if (version.isEqualOrNewerThan(FhirVersionEnum.R4)) {
            server.setServerConformanceProvider(new JpaCapabilityStatementProvider(
                    server, spring.getBean(IFhirSystemDao.class), spring.getBean(JpaStorageSettings.class),
                    spring.getBean(ISearchParamRegistry.class), spring.getBean(IValidationSupport.class)));
        }
        String strict = System.getenv("HAPI_STRICT"); // not set: as HAPI has it
        if (strict != null && !strict.isEmpty()) {
            context.setParserErrorHandler(flag("HAPI_STRICT", true) ? new StrictErrorHandler() : new LenientErrorHandler());
        }
        if (flag("HAPI_VALIDATE", false)) {
            RequestValidatingInterceptor check = new ValidatingInterceptor();
            check.addValidatorModule(spring.getBean(IInstanceValidatorModule.class));
            check.setFailOnSeverity(ResultSeverityEnum.ERROR);
            check.setAddResponseHeaderOnSeverity(null);
            server.registerInterceptor(check);
        }
        return server;
    }

    public static class ValidatingInterceptor extends RequestValidatingInterceptor {
        @Override
        @Hook(Pointcut.SERVER_INCOMING_REQUEST_POST_PROCESSED)
        public boolean incomingRequestPostProcessed(
                RequestDetails details, HttpServletRequest request, HttpServletResponse response) {
            return !request.getServletPath().equals(VALIDATING)
                    || super.incomingRequestPostProcessed(details, request, response);
        }
    }

    @Configuration
    @EnableTransactionManagement
    @Import({HapiJpaConfig.class, ThreadPoolFactoryConfig.class, JpaBatch2Config.class, Batch2JobsConfig.class,
        SubscriptionChannelConfig.class, SubscriptionSubmitterConfig.class})
    public static class Wiring {

        @Bean
        public JpaStorageSettings storageSettings() {
            JpaStorageSettings settings = new JpaStorageSettings();
            settings.setEnforceReferentialIntegrityOnWrite(flag("HAPI_REFINT", true));
            settings.setAutoCreatePlaceholderReferenceTargets(flag("HAPI_PLACEHOLDERS", false));
            settings.setAllowExternalReferences(flag("HAPI_EXTERNAL_REFS", true));
            settings.setAllowMultipleDelete(true);
            settings.setResourceClientIdStrategy(flag("HAPI_ANY_ID", false)
                    ? JpaStorageSettings.ClientIdStrategyEnum.ANY
                    : JpaStorageSettings.ClientIdStrategyEnum.ALPHANUMERIC);
            if (flag("HAPI_ANY_ID", false)) {
                settings.setResourceServerIdStrategy(JpaStorageSettings.IdStrategyEnum.UUID);
            }
            settings.setReuseCachedSearchResultsForMillis(null); // a search always sees the writes before it
            settings.setSchedulingDisabled(true);                // no background jobs in a test server
            settings.setHibernateSearchIndexFullText(false);
            return settings;
        }

        @Bean
        public PartitionSettings partitionSettings() {
            return new PartitionSettings();
        }

        @Bean
        public SubscriptionSettings subscriptionSettings() {
            return new SubscriptionSettings();
        }

        @Bean(destroyMethod = "close")
        public DataSource dataSource() {
            BasicDataSource pool = new BasicDataSource();
            pool.setDriverClassName("org.h2.Driver");
            pool.setUrl("jdbc:h2:mem:fhir;DB_CLOSE_DELAY=-1");
            pool.setUsername("sa");
            pool.setPassword("");
            pool.setMaxTotal(40);
            return pool;
        }

        @Bean
        public LocalContainerEntityManagerFactoryBean entityManagerFactory(
                DataSource data, ConfigurableListableBeanFactory beans, FhirContext context, JpaStorageSettings settings) {
            LocalContainerEntityManagerFactoryBean factory =
                    HapiEntityManagerFactoryUtil.newEntityManagerFactory(beans, context, settings);
            factory.setPersistenceUnitName("HAPI_PU");
            factory.setDataSource(data);
            Properties jpa = new Properties();
            jpa.put("hibernate.dialect", HapiFhirH2Dialect.class.getName());
            jpa.put("hibernate.hbm2ddl.auto", "create-only");
            jpa.put("hibernate.jdbc.batch_size", "20");
            jpa.put("hibernate.cache.use_query_cache", "false");
            jpa.put("hibernate.cache.use_second_level_cache", "false");
            jpa.put("hibernate.cache.use_structured_entries", "false");
            jpa.put("hibernate.cache.use_minimal_puts", "false");
            jpa.put("hibernate.search.enabled", "false");
            factory.setJpaProperties(jpa);
            return factory;
        }

        @Bean
        public JpaTransactionManager transactionManager(EntityManagerFactory factory) {
            return new JpaTransactionManager(factory);
        }
    }
}
