// swift-tools-version: 6.2
import PackageDescription

/// Settings of every Swift target: language mode 6, the upcoming features, warnings as errors.
let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .treatAllWarnings(as: .error),
]

/// A kernel module: one source (symlinked, but for AMX), compiled for one instruction set.
///
/// Only these targets hold code above the baseline CPU; `Kernels` asks the processor.
func kernels(_ name: String, _ define: String, _ march: [String]) -> Target {
    .target(
        name: "Kernels\(name)",
        dependencies: ["CKernelABI"],
        swiftSettings: strict + [
            .define(define),
            .unsafeFlags(
                ["-Ounchecked", "-enforce-exclusivity=unchecked"]
                    + march.flatMap { ["-Xcc", $0] }
            ),
        ]
    )
}

#if arch(arm64)
let kernelTargets = [kernels("NEON", "ISA_NEON", ["-march=armv8-a+i8mm"])]
#else
let kernelTargets = [
    kernels("SSE41", "ISA_SSE41", ["-march=x86-64-v2"]),
    kernels("AVX2", "ISA_AVX2", ["-march=x86-64-v3"]),
    kernels("AVXVNNI", "ISA_AVXVNNI", ["-march=x86-64-v3", "-mavxvnni"]),
    kernels(
        "AVX512VNNI",
        "ISA_AVX512VNNI",
        ["-march=x86-64-v4", "-mavx512vnni", "-mprefer-vector-width=512"]
    ),
    kernels(
        "AMX",
        "ISA_AMX",
        [
            "-march=x86-64-v4", "-mavx512vnni", "-mprefer-vector-width=512", "-mamx-tile",
            "-mamx-int8",
        ]
    ),
]
#endif

func module(
    _ name: String,
    path: String? = nil,
    exclude: [String] = [],
    resources: [Resource] = [],
    _ dependencies: [Target.Dependency]
) -> Target {
    .target(
        name: name,
        dependencies: dependencies,
        path: path,
        exclude: exclude,
        resources: resources,
        swiftSettings: strict
    )
}

func program(_ name: String, path: String, _ dependencies: [Target.Dependency]) -> Target {
    .executableTarget(name: name, dependencies: dependencies, path: path, swiftSettings: strict)
}

func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .testTarget(
        name: "\(name)Tests",
        dependencies: dependencies + ["TestSupport"],
        swiftSettings: strict
    )
}

let argumentParser = Target.Dependency.product(
    name: "ArgumentParser",
    package: "swift-argument-parser"
)
let crypto = Target.Dependency.product(name: "Crypto", package: "swift-crypto")
let grdb = Target.Dependency.product(name: "GRDB", package: "GRDB.swift")
let sqlite = Target.Dependency.product(name: "GRDBSQLite", package: "GRDB.swift")
let httpTypes = Target.Dependency.product(name: "HTTPTypes", package: "swift-http-types")
let hummingbird = Target.Dependency.product(name: "Hummingbird", package: "hummingbird")
let hummingbirdCore = Target.Dependency.product(name: "HummingbirdCore", package: "hummingbird")
let hummingbirdTLS = Target.Dependency.product(name: "HummingbirdTLS", package: "hummingbird")
let hummingbirdTesting = Target.Dependency.product(
    name: "HummingbirdTesting",
    package: "hummingbird"
)
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let nioCore = Target.Dependency.product(name: "NIOCore", package: "swift-nio")
let nioHTTPTypes = Target.Dependency.product(name: "NIOHTTPTypes", package: "swift-nio-extras")
let nioHTTP1 = Target.Dependency.product(name: "NIOHTTP1", package: "swift-nio")
let nioPosix = Target.Dependency.product(name: "NIOPosix", package: "swift-nio")
let nioSSL = Target.Dependency.product(name: "NIOSSL", package: "swift-nio-ssl")
let unixSignals = Target.Dependency.product(
    name: "UnixSignals",
    package: "swift-service-lifecycle"
)
let lifecycle = Target.Dependency.product(
    name: "ServiceLifecycle",
    package: "swift-service-lifecycle"
)
let yams = Target.Dependency.product(name: "Yams", package: "Yams")

let package = Package(
    name: "flowpack",
    products: [
        .executable(name: "flowpack", targets: ["flowpack"]),
        .executable(name: "flowpack-coordinator", targets: ["flowpack-coordinator"]),
        .executable(name: "flowpack-worker", targets: ["flowpack-worker"]),
    ],
    dependencies: [
        .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.0"),
        .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.0"),
        .package(url: "https://github.com/apple/swift-http-types", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.0"),
        .package(url: "https://github.com/apple/swift-nio-extras", from: "1.35.0"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.0"),
        .package(
            url: "https://github.com/swift-server/swift-service-lifecycle",
            from: "2.13.0"
        ),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.0"),
    ],
    targets: [
        // The bottom: C headers and the kernels of each instruction set.
        .target(name: "CKernelABI"),
        .systemLibrary(
            name: "CCurl",
            pkgConfig: "libcurl",
            providers: [.apt(["libcurl4-openssl-dev"])]
        ),
        .systemLibrary(name: "CSPNG", pkgConfig: "spng", providers: [.apt(["libspng-dev"])]),
    ] + kernelTargets + [
        // The codec line.
        module("Kernels", ["CKernelABI"] + kernelTargets.map { .byName(name: $0.name) }),
        module("Raster", ["CSPNG"]),
        module("Flow", ["Kernels", crypto]),
        module("EntropyCoding", ["Kernels", "CKernelABI"]),
        module("Codec", ["Raster", "Flow", "EntropyCoding", "Kernels"]),
        module(
            "Archive",
            ["Codec", "EntropyCoding", "Flow", "JobProtocol", "Raster", crypto]
        ),
        module("Dataset", ["Raster"]),
        // The distribution line.
        module("JobProtocol", []),
        module("OpenAPI", resources: [.embedInCode("openapi.yaml")], []),
        module("CrashPoints", []),
        module("HTTPTransport", ["CCurl"]),
        module("S3", ["HTTPTransport", crypto]),
        module("CoordinatorClient", ["JobProtocol", "HTTPTransport"]),
        module(
            "Coordinator",
            path: "coordinator",
            exclude: ["main"],
            [
                "CrashPoints", "JobProtocol", "OpenAPI", "S3", hummingbird, hummingbirdCore,
                hummingbirdTLS, httpTypes, grdb, crypto, logging, lifecycle, nioCore, nioHTTPTypes,
                nioPosix, nioSSL,
            ]
        ),
        // Where the two meet.
        module(
            "Worker",
            path: "worker",
            exclude: ["main"],
            resources: [.copy("models")],
            [
                "Archive", "Codec", "CoordinatorClient", "CrashPoints", "Dataset", "EntropyCoding",
                "Flow", "HTTPTransport", "JobProtocol", "Kernels", "Raster", logging,
            ]
        ),
        program(
            "flowpack",
            path: "Sources/flowpack",
            [
                "Archive", "Codec", "Coordinator", "CoordinatorClient", "CrashPoints", "Dataset",
                "Flow", "HTTPTransport", "JobProtocol", "Kernels", "Raster", "S3", "Worker",
                argumentParser, grdb, logging, lifecycle, nioCore, nioHTTP1, nioPosix,
            ]
        ),
        program(
            "flowpack-coordinator",
            path: "coordinator/main",
            ["Coordinator", "JobProtocol", "S3", argumentParser, logging, lifecycle, unixSignals]
        ),
        program(
            "flowpack-worker",
            path: "worker/main",
            [
                "CoordinatorClient", "HTTPTransport", "JobProtocol", "Kernels", "Worker",
                argumentParser, logging,
            ]
        ),
        // Tests, one target for each module.
        module("TestSupport", path: "Tests/TestSupport", []),
        tests("Kernels", ["Kernels"]),
        tests("Raster", ["Raster"]),
        tests("Flow", ["Flow", "Kernels"]),
        tests("EntropyCoding", ["EntropyCoding", "Kernels", "CKernelABI"]),
        tests("Codec", ["Codec", "Flow", "EntropyCoding", "Kernels", "Raster"]),
        tests(
            "Archive",
            [
                "Archive", "Codec", "EntropyCoding", "Flow", "JobProtocol", "Kernels", "Raster",
                crypto,
            ]
        ),
        tests("Dataset", ["Dataset", "Raster"]),
        tests("JobProtocol", ["JobProtocol"]),
        tests("OpenAPI", ["JobProtocol", "OpenAPI", yams]),
        tests(
            "Coordinator",
            [
                "Coordinator", "JobProtocol", "S3", crypto, grdb, hummingbird,
                hummingbirdTesting, httpTypes, logging, nioCore,
            ]
        ),
        tests("Simulation", ["Coordinator", "JobProtocol", grdb, sqlite]),
        tests("S3", ["S3"]),
        tests("CoordinatorClient", ["CoordinatorClient", "HTTPTransport", "JobProtocol"]),
        tests(
            "Worker",
            [
                "Worker", "JobProtocol", "Archive", "Codec", "CoordinatorClient", "Flow",
                "HTTPTransport", "Kernels", "Raster", logging,
            ]
        ),
        tests(
            "Command",
            [
                "CrashPoints", "HTTPTransport", "JobProtocol", "flowpack", "flowpack-coordinator",
                "flowpack-worker",
            ]
        ),
    ]
)

// The fuzzers: a library that `ops/fuzz` builds with coverage and links with libFuzzer.
if Context.environment["FLOWPACK_FUZZ"] != nil {
    package.products.append(.library(name: "FlowpackFuzz", type: .static, targets: ["Fuzz"]))
    package.targets.append(
        module(
            "Fuzz",
            path: "Tests/Fuzz",
            [
                "Archive", "Codec", "Dataset", "EntropyCoding", "Flow", "JobProtocol", "Kernels",
                "Raster", "TestSupport",
            ]
        )
    )
}
